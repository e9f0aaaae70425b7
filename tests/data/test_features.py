"""features.safetensors comes back as it was written, and a split gets its own rows of it.

Run with `pytest tests/data/test_features.py`.
"""

from pathlib import Path

import numpy as np
import pytest

from thaw.data.features import FeatureTable, read_features, select_split, write_features
from thaw.data.splits_csv import SplitTable
from thaw.errors import DataError

PATHS = ("Cat/1", "Cat/2", "Dog/1")


def features(views: int = 2) -> FeatureTable:
    made = np.random.default_rng(0).standard_normal((len(PATHS), views, 5)).astype(np.float32)
    made[0, 0, 0] = -0.0
    return FeatureTable(paths=PATHS, views=made, backbone_sha256="ab" * 32)


def splits(*, paths: tuple[str, ...] = PATHS) -> SplitTable:
    labels = tuple(path.split("/")[0] for path in paths)
    return SplitTable(paths=paths, labels=labels, splits=("val", "train", "val")[: len(paths)], groups=paths)


@pytest.mark.parametrize("views", [1, 3])
def test_what_is_written_comes_back_to_the_bit(tmp_path: Path, views: int) -> None:
    written = features(views)
    write_features(tmp_path / "new" / "features.safetensors", written)
    read = read_features(tmp_path / "new" / "features.safetensors")
    assert (read.paths, read.backbone_sha256) == (written.paths, written.backbone_sha256)
    assert read.views.shape == (3, views, 5)
    assert read.views.dtype == np.float32
    assert read.views.tobytes() == written.views.tobytes()


def test_the_file_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_features(tmp_path / name, features())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"features\.safetensors does not exist: run `dvc repro`, which .* embed$"):
        read_features(tmp_path / "features.safetensors")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "folder", "another file"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "features.safetensors"
    write_features(path, features())
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        whole = path.read_bytes()
        about = b"another" if damage == "another file" else b"about"
        damaged = {"empty": b"", "cut": whole[:-5], "text": b"no features at all"}
        path.write_bytes(damaged.get(damage, whole.replace(b'"about":"', b'"other":"')))
        assert about != b"another" or b'"other":' in path.read_bytes()
    said = "no file: run `dvc repro`" if damage == "folder" else r"damaged \(.*\); delete it and run `dvc repro`$"
    with pytest.raises(DataError, match=rf"features\.safetensors is {said}") as caught:
        read_features(path)
    assert "\n" not in str(caught.value)


def test_a_split_gets_its_images_with_their_labels_and_rows() -> None:
    table = features()
    # Rows of the features are found by path, wherever they stand.
    backwards = FeatureTable(paths=table.paths[::-1], views=table.views[::-1], backbone_sha256=table.backbone_sha256)
    val = select_split("val", splits=splits(), features=backwards, classes=("Cat", "Dog"))
    assert val.paths == ("Cat/1", "Dog/1")
    assert val.labels.tolist() == [0, 1]
    assert np.array_equal(val.views, table.views[[0, 2]])
    assert np.array_equal(val.features, table.views[[0, 2], 0])


def test_a_fingerprint_changes_with_each_part() -> None:
    table, own = features(), splits()
    val = select_split("val", splits=own, features=table, classes=("Cat", "Dog"))
    again = select_split("val", splits=own, features=table, classes=("Cat", "Dog"))
    others = [
        select_split("train", splits=own, features=table, classes=("Cat", "Dog")),
        select_split("val", splits=own, features=table, classes=("Dog", "Cat")),
        select_split("val", splits=own, features=features(views=1), classes=("Cat", "Dog")),
    ]
    assert val.fingerprint() == again.fingerprint()
    assert len({split.fingerprint() for split in [val, *others]}) == 4


def test_images_without_features_are_one_sentence() -> None:
    with pytest.raises(DataError, match="1 images have no features, Emu/1 for one; run `dvc repro embed`"):
        select_split("val", splits=splits(paths=("Emu/1", "Cat/1")), features=features(), classes=("Cat", "Emu"))


def test_a_class_that_the_model_does_not_know_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"data/splits\.csv has the class 'Dog', which the model does not know"):
        select_split("val", splits=splits(), features=features(), classes=("Cat",))


def test_features_of_another_backbone_are_one_sentence() -> None:
    features().require_made_by(name="resnet18", backbone_sha256="ab" * 32)
    with pytest.raises(DataError, match="the features were made by another resnet18"):
        features().require_made_by(name="resnet18", backbone_sha256="cd" * 32)
