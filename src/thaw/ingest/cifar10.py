"""CIFAR-10's python archive -> images. Its batches are pickles, and a pickle can run any code: these cannot."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thaw.errors import DataError, one_line
from thaw.utils.progress import progress

SIDE_PX = 32
PIXEL_BYTES = 3 * SIDE_PX * SIDE_PX
META, TEST_BATCH = "batches.meta", "test_batch"


def holds_batches(folder: Path) -> bool:
    """Whether CIFAR-10's batches lie somewhere in `folder`."""
    return _batches_folder(folder) is not None


def convert_batches(folder: Path) -> None:
    """Replace the batches in `folder` by `train/<class>/<index>.png` and `test/<class>/<index>.png`.

    The index counts images in the order of the batches, from 00000; in `test` it is the place in the test batch.
    The layout of the batches: https://www.cs.toronto.edu/~kriz/cifar.html.

    Raises:
        DataError: a batch is missing, is damaged, holds anything but plain values and one array of bytes, or has a
            label without a name.
    """
    batches = _batches_folder(folder)
    if batches is None:
        raise DataError(
            f"{folder} holds no {META} with a {TEST_BATCH} beside it; unpack CIFAR-10's python archive there"
        )
    train = sorted(batches.glob("data_batch_*"))
    if not train:
        raise DataError(f"{batches} holds no data_batch_1; fetch CIFAR-10's python archive again")
    classes = _read_classes(batches / META)
    splits = {"train": [_read_batch(path) for path in train], "test": [_read_batch(batches / TEST_BATCH)]}
    total = sum(len(labels) for split in splits.values() for _, labels in split)
    with progress("convert", total=total, unit="images") as bar:
        for split, parts in splits.items():
            pixels = np.concatenate([part for part, _ in parts])  # (N, 32, 32, 3) uint8
            labels = [label for _, part in parts for label in part]
            if not set(labels) <= set(range(len(classes))):
                raise DataError(f"{batches} has labels that none of its {len(classes)} classes has; fetch it again")
            for name in classes:
                (folder / split / name).mkdir(parents=True)
            for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
                Image.fromarray(image).save(folder / split / classes[label] / f"{index:05}.png")
                bar.update()
    _remove_batches(batches, folder=folder)


def _batches_folder(folder: Path) -> Path | None:
    metas = sorted(folder.rglob(META))
    return next((meta.parent for meta in metas if (meta.parent / TEST_BATCH).is_file()), None)


def _remove_batches(batches: Path, *, folder: Path) -> None:
    for path in [*batches.glob("data_batch_*"), batches / META, batches / TEST_BATCH, batches / "readme.html"]:
        path.unlink(missing_ok=True)
    if batches != folder and not any(batches.iterdir()):
        batches.rmdir()


def _read_classes(path: Path) -> list[str]:
    names = _load(path).get(b"label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes) and name.isalnum() for name in names):
        raise _damaged(path, "its label_names are not a list of words")
    if len({name.lower() for name in names}) < len(names):
        raise _damaged(path, f"its label_names repeat {Counter(names).most_common(1)[0][0]!r}")
    return [name.decode("ascii") for name in names]


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Pixels (N, 32, 32, 3) uint8 RGB, and N labels."""
    batch = _load(path)
    array, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise _damaged(path, "its labels are not a list of whole numbers")
    if not isinstance(array, _PickledArray) or len(array.bytes) != len(labels) * PIXEL_BYTES:
        raise _damaged(path, f"its data are not {PIXEL_BYTES} bytes for each of {len(labels)} labels")
    planes = np.frombuffer(array.bytes, np.uint8).reshape(len(labels), 3, SIDE_PX, SIDE_PX)
    return planes.transpose(0, 2, 3, 1), labels


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path.name} is not a batch of CIFAR-10: {why}; fetch the archive again")


class _PickledArray:
    """Stands in for a NumPy array while unpickling: keeps the raw bytes, and runs none of NumPy's code on them."""

    bytes = b""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, content = state
        if not isinstance(dtype, _PickledType) or dtype.name not in ("u1", "uint8") or column_major:
            raise pickle.UnpicklingError("an array that is not of unsigned bytes in rows")
        if not isinstance(content, bytes) or not isinstance(shape, tuple) or shape[1:] != (PIXEL_BYTES,):
            raise pickle.UnpicklingError(f"an array that has not {PIXEL_BYTES} bytes a row")
        self.bytes = content


class _PickledType:
    """Stands in for a NumPy dtype."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name

    def __setstate__(self, _: object) -> None:
        pass


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes under protocol 2: as text, and a call of this."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"bytes as {encoding!r}")
    return text.encode("latin1")


_STAND_INS = {
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledType,
}


class _Unpickler(pickle.Unpickler):
    """Builds what a batch consists of: dicts, lists, numbers, bytes, and one array.

    A pickle runs code by naming functions to call. The only names that are known here are those that batches use,
    and all of them lead to the harmless stand-ins above; any other name raises.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _STAND_INS[module, name]


# What `pickle` raises on mutilated files, found by fuzzing it.
_BROKEN = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
)


def _load(path: Path) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            # Python 2 wrote the official files: its strings are bytes.
            value = _Unpickler(file, encoding="bytes").load()
    except _BROKEN as error:
        raise _damaged(path, one_line(error)) from None
    if not isinstance(value, dict):
        raise _damaged(path, f"it is a {type(value).__name__}, not a dict")
    return value
