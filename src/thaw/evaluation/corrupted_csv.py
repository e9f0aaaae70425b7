"""predictions/corrupted CSV: what a model says of each test image at each severity; the writer beside the reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.data.corruptions import SEVERITIES
from thaw.errors import DataError
from thaw.utils.records import read_rows, write_rows

_PREDICTED = tuple(f"severity_{severity}" for severity in SEVERITIES)
_COLUMNS = ("path", "label", *_PREDICTED)


@dataclass(frozen=True, kw_only=True)
class CorruptedPredictions:
    """What a model says of N images under one corruption."""

    paths: tuple[str, ...]

    labels: tuple[str, ...]
    """The true class of each image."""

    predicted: NDArray[np.int64]
    """Shape `(N, 5)`: the index of the most probable class at each severity."""


def write_corrupted_predictions(
    path: Path, *, paths: Sequence[str], labels: Sequence[str], predicted: NDArray[np.int64], classes: Sequence[str]
) -> None:
    """Write a row an image: path, true class, and the predicted class at each severity.

    Args:
        path: the file.
        paths: N images.
        labels: their classes.
        predicted: shape `(N, 5)`, indices into `classes`.
        classes: the names of C classes.
    """
    rows = ((*row, *(classes[i] for i in found)) for *row, found in zip(paths, labels, predicted, strict=True))
    write_rows(path, _COLUMNS, rows)


def read_corrupted_predictions(path: Path, *, classes: Sequence[str]) -> CorruptedPredictions:
    """Read what `write_corrupted_predictions` wrote; DataError if it is missing, or names another class."""
    rows = read_rows(path, _COLUMNS, stage="evaluate_corrupted")
    unknown = sorted({row[column] for row in rows for column in ("label", *_PREDICTED)} - set(classes))
    if unknown:
        raise DataError(f"{path} names the class {unknown[0]!r}, which data/splits.csv does not have; run `dvc repro`")
    return CorruptedPredictions(
        paths=tuple(row["path"] for row in rows),
        labels=tuple(row["label"] for row in rows),
        predicted=np.array([[classes.index(row[column]) for column in _PREDICTED] for row in rows]),
    )
