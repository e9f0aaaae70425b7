"""`thaw predict` says what pictures show, with a model and nothing else."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import TINY_BACKBONE
from thaw.backbones import build_backbone
from thaw.errors import DataError
from thaw.model import Classifier, save_model
from thaw.predict import predict_pictures


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
