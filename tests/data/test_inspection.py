"""`thaw inspect` says what the stages would say, of folders and archives, and writes nothing.

Run with `pytest tests/data/test_inspection.py`.
"""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from thaw import cli
from thaw.data.inspection import format_inspection, inspect_images
from thaw.errors import ConfigError, DataError
from thaw.params import LayoutKind, LayoutParams, Params


def jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((60, 44), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A little of everything."""
    path = tmp_path / "my.zip"
    with zipfile.ZipFile(path, "w") as package:
        for seed, name in enumerate(["train/Cat/1", "train/Cat/2", "train/Dog/1", "val/Cat/1", "val/Dog/1", "test/1"]):
            package.writestr(f"{name}.jpg", jpeg(seed))
        package.writestr("train/Cat/copy.jpg", jpeg(0))
        package.writestr("train/Dog/conflict.jpg", jpeg(1))
        package.writestr("train/Dog\\2.jpg", jpeg(9))
        package.writestr("train/Dog/cut.jpg", jpeg(2)[:-200])
        package.writestr("../evil.jpg", b"evil")
    return path


def test_it_says_what_would_become_of_the_files(archive: Path, default_params: Params) -> None:
    found = inspect_images(archive, unzip=default_params.unzip, clean=default_params.clean, layout=default_params.data)
    assert found.understood == (
        "6 images in 2 classes (Cat 3, Dog 3), val given; 1 unlabelled in test/ left aside; "
        "1 entry of the archive refused; 1 entry of the archive renamed"
    )
    assert found.problem == ""
    assert {label: (one.kept, one.train, one.val, one.test, one.dropped) for label, one in found.classes.items()} == {
        "Cat": (3, 2, 1, 0, 1),
        "Dog": (3, 2, 1, 0, 2),
    }
    assert {reason: one.files for reason, one in found.dropped.items()} == {
        "label conflict": 2, "no label": 1, "refused entry": 1, "truncated": 1,
    }  # fmt: skip
    assert (found.files, found.kept, found.copies_exact, found.groups_of_copies) == (11, 6, 2, 1)
    assert found.label_conflicts == (("train/Cat/2.jpg", "train/Dog/conflict.jpg"),)
    assert list(found.renamed) == ["train/Dog/2.jpg"]
    text = format_inspection(found)
    assert "one image, several labels: train/Cat/2.jpg, train/Dog/conflict.jpg" in text
    assert "../evil.jpg (leads out of the folder with '..')" in text
    assert [path.name for path in archive.parent.iterdir()] == ["my.zip"]


def test_a_folder_is_inspected_as_it_lies(tmp_path: Path, default_params: Params) -> None:
    for seed, label in enumerate(("Cat", "Dog")):
        (tmp_path / "mine" / label).mkdir(parents=True)
        (tmp_path / "mine" / label / "1.jpg").write_bytes(jpeg(seed))
    found = inspect_images(
        tmp_path / "mine", unzip=default_params.unzip, clean=default_params.clean, layout=LayoutParams()
    )
    assert found.understood == "2 images in 2 classes (Cat 1, Dog 1), split drawn"


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["thaw", "inspect", *arguments])
    cli.main()


def test_the_command_prints_a_table_or_json(
    archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli(monkeypatch, str(archive))
    assert capsys.readouterr().out.startswith(f"{archive}: 11 files, 0.0 MB\n6 images in 2 classes")
    run_cli(monkeypatch, str(archive), "--json", "--layout", "split_folders")
    assert json.loads(capsys.readouterr().out)["kept"] == 6


def test_what_cannot_be_trained_on_is_one_sentence_after_what_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as package:
        package.writestr("Cat/1.jpg", jpeg(0))
    with pytest.raises(DataError) as caught:
        run_cli(monkeypatch, str(tmp_path / "one.zip"))
    assert str(caught.value) == (
        f"{tmp_path / 'one.zip'} has sound images of one class only, 'Cat', and two are needed: give one folder of "
        "images a class, or say in data.layout and data.labels where the labels are"
    )
    assert capsys.readouterr().out == ""
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as package:
        package.writestr("Cat/1.jpg", b"")
    with pytest.raises(DataError, match=r"none\.zip leaves no sound image with a class"):
        run_cli(monkeypatch, str(tmp_path / "none.zip"))
    assert "not in a class folder      1  Cat/1.jpg" in capsys.readouterr().out


def test_an_empty_class_is_one_sentence(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^--classes: a name is empty; "):
        run_cli(monkeypatch, str(archive), "--classes", "Cat", "")


def test_the_layouts_are_those_of_the_parameters() -> None:
    assert get_args(LayoutKind) == cli.LAYOUTS
