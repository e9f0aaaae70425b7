"""CIFAR-10's batches become the right images, and no pickle runs code.

Run with `pytest tests/ingest/test_cifar10.py`.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from thaw.errors import DataError
from thaw.ingest.cifar10 import convert_batches, holds_batches
from thaw.ingest.unpack import unpack_archive
from thaw.params_file import load_params

CLASSES = [b"cat", b"ship"]


def make_batch(labels: list[int], seed: int) -> dict[bytes, Any]:
    data = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {b"data": data, b"labels": labels, b"filenames": [b"x.png"] * len(labels)}


TRAIN = [make_batch([0, 1, 1], 1), make_batch([1, 0], 2)]
TEST = make_batch([1, 0, 1], 3)


def write_batches(folder: Path, **changes: object) -> Path:
    """Write small batches; `changes` replaces files by name (a value to pickle, or bytes as they are)."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, object] = {
        "data_batch_1": TRAIN[0],
        "data_batch_2": TRAIN[1],
        "test_batch": TEST,
        "batches.meta": {b"label_names": CLASSES},
        "readme.html": b"<html>",
        **changes,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))
    return folder


def pixels(batch: dict[bytes, Any], index: int) -> NDArray[np.uint8]:
    """As the page of the data set says: 1024 red, then 1024 green, then 1024 blue, row by row."""
    image: NDArray[np.uint8] = np.dstack([plane.reshape(32, 32) for plane in np.split(batch[b"data"][index], 3)])
    return image


def test_images_lie_where_their_label_and_index_say(tmp_path: Path) -> None:
    write_batches(tmp_path / "cifar-10-batches-py")
    assert holds_batches(tmp_path)
    convert_batches(tmp_path)
    expected = {
        "train/cat/00000.png": pixels(TRAIN[0], 0),
        "train/ship/00001.png": pixels(TRAIN[0], 1),
        "train/ship/00002.png": pixels(TRAIN[0], 2),
        "train/ship/00003.png": pixels(TRAIN[1], 0),
        "train/cat/00004.png": pixels(TRAIN[1], 1),
        "test/ship/00000.png": pixels(TEST, 0),
        "test/cat/00001.png": pixels(TEST, 1),
        "test/ship/00002.png": pixels(TEST, 2),
    }
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(expected)
    for path, wanted in expected.items():
        with Image.open(tmp_path / path) as image:
            np.testing.assert_array_equal(np.asarray(image), wanted)


def test_a_folder_of_images_holds_no_batches(tmp_path: Path) -> None:
    (tmp_path / "PetImages").mkdir()
    assert not holds_batches(tmp_path)
    with pytest.raises(DataError, match="holds no batches"):
        convert_batches(tmp_path)


class Harmful:
    """A pickle of this makes a folder when it is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "batches", test_batch={b"data": Harmful(tmp_path / "harmed")})
    with pytest.raises(DataError, match=r"test_batch is not a batch of CIFAR-10: it asks for posix\.mkdir"):
        convert_batches(folder)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"test_batch": b""}, "test_batch"),
        ({"test_batch": b"not a pickle"}, "test_batch"),
        ({"test_batch": b"Pperson\n."}, "persistent id"),
        ({"data_batch_2": pickle.dumps(TRAIN[1], protocol=2)[:-40]}, "data_batch_2"),
        ({"data_batch_2": [1, 2]}, "it is a list, not a dict"),
        ({"data_batch_2": {}}, "labels are not"),
        ({"data_batch_2": {b"labels": [1.5], b"data": TRAIN[0][b"data"]}}, "labels are not"),
        ({"data_batch_2": {b"labels": [1], b"data": TRAIN[0][b"data"]}}, "3072 bytes for each of 1 labels"),
        ({"data_batch_2": {b"labels": [1], b"data": np.zeros((1, 3072), np.int64)}}, "unsigned bytes"),
        ({"data_batch_2": {b"labels": [1], b"data": np.zeros((1, 3071), np.uint8)}}, "3072 bytes a row"),
        ({"data_batch_2": {b"labels": [7, 0], b"data": TRAIN[1][b"data"]}}, "none of its 2 classes"),
        ({"data_batch_2": {b"labels": [-1, 0], b"data": TRAIN[1][b"data"]}}, "none of its 2 classes"),
        ({"batches.meta": {b"label_names": [b"cat", b"../dog"]}}, "not a list of words"),
        ({"batches.meta": {b"label_names": [b"cat", b"cat"]}}, "repeat"),
        ({"batches.meta": {}}, "not a list of words"),
    ],
)
def test_damaged_batches_are_one_sentence(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    write_batches(tmp_path, **changes)
    with pytest.raises(DataError, match=complaint) as caught:
        convert_batches(tmp_path)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_mutated_pickles_give_images_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sound = pickle.dumps({b"data": TRAIN[1][b"data"][:1], b"labels": [1]}, protocol=2)
    # The head and the tail of the file hold the opcodes; between them lie the pixels.
    places = st.integers(0, 200) | st.integers(len(sound) - 100, len(sound) - 1)
    mutated = bytearray(sound)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        mutated[place] = value
    folder = write_batches(tmp_path_factory.mktemp("batches"), data_batch_1=bytes(mutated))
    try:
        convert_batches(folder)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 - images are as good an outcome
    else:
        assert (folder / "train").is_dir()


def test_the_real_layout(shared_data: Path, tmp_path: Path) -> None:
    unpack_archive(shared_data / "cifar-10-python-5k.tar.gz", tmp_path / "images", limits=load_params().unzip)
    for split, count in {"train": 4000, "test": 1000}.items():
        names = sorted(path.name for path in (tmp_path / "images" / split).rglob("*.png"))
        assert names == [f"{index:05}.png" for index in range(count)]
    assert len(list((tmp_path / "images").rglob("*"))) == 5000 + 2 + 20
