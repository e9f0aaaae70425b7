"""`thaw predict` says what pictures show, with a model and nothing else."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, TINY_BACKBONE
from thaw.backbones import build_backbone
from thaw.errors import DataError
from thaw.model import Classifier, save_model
from thaw.params import load_params
from thaw.predict import predict_pictures, score_archive


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    classifier = Classifier(build_backbone(TINY_BACKBONE), classes=("Cat", "Dog"), seed=0)
    save_model(folder, classifier, facts={"backbone": TINY_BACKBONE.model_dump()})
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40), (200, 10, 10)).save(buffer, "JPEG")
    path = tmp_path / "red.jpg"
    path.write_bytes(buffer.getvalue())
    return path


def test_probabilities_sum_to_one(model: Path, picture: Path) -> None:
    ((path, probabilities),) = predict_pictures(model, [picture])
    assert path == picture
    assert sorted(probabilities) == ["Cat", "Dog"]
    assert sum(probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xd8\xff\xe0"])
def test_a_broken_picture_is_one_sentence(model: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.jpg is not a sound picture"):
        list(predict_pictures(model, [path]))


def test_a_missing_picture_is_one_sentence(model: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.jpg cannot be read \(No such file or directory\)"):
        list(predict_pictures(model, [Path("nowhere.jpg")]))


def test_the_command(model: Path, picture: Path) -> None:
    thaw = Path(sys.executable).with_name("thaw")
    done = subprocess.run([thaw, "predict", model, picture], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{picture}: ")
    failed = subprocess.run([thaw, "predict", picture.parent, picture], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1


def make_archive(path: Path, labels: dict[str, tuple[int, int, int]]) -> Path:
    """Ten pictures of each label, all of its colour."""
    with zipfile.ZipFile(path, "w") as archive:
        for label, colour in labels.items():
            for number in range(10):
                buffer = io.BytesIO()
                noise = np.random.default_rng([number, *colour]).integers(0, 60, (40, 50, 3))
                Image.fromarray((noise + colour).astype(np.uint8)).save(buffer, "PNG")
                archive.writestr(f"{label}/{number}.png", buffer.getvalue())
    return path


def test_a_score_counts_what_predict_says(model: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "other.zip", {"Cat": (150, 0, 0), "Dog": (0, 150, 0)})
    params = load_params(ROOT / "params.yaml")
    (score,) = score_archive([model], archive, unzip=params.unzip, clean=params.clean, batch_size=8)
    with zipfile.ZipFile(archive) as package:
        package.extractall(tmp_path / "by_hand")
    paths = sorted((tmp_path / "by_hand").rglob("*.png"))
    right = [path.parent.name == max(p, key=lambda name: p[name]) for path, p in predict_pictures(model, paths)]
    assert (score.pictures, score.correct) == (20, sum(right))


def test_a_class_that_the_model_does_not_know_is_one_sentence(model: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "other.zip", {"Cat": (150, 0, 0), "Emu": (0, 150, 0)})
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(DataError, match=r"has the class 'Emu', which .*model does not know \(Cat, Dog\)"):
        list(score_archive([model], archive, unzip=params.unzip, clean=params.clean, batch_size=8))
