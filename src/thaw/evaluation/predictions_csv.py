"""predictions CSV: one row a test image; the writer beside the reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.errors import DataError
from thaw.utils.records import parse_number, read_rows, write_rows

Probabilities = NDArray[np.float64]
"""Shape `(N, C)`, rows that sum to 1."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of N images."""

    paths: tuple[str, ...]

    labels: tuple[str, ...]
    """The true class of each image."""

    probabilities: Probabilities
    """Shape `(N, C)`, in the order of the classes that they were written or read with."""

    predicted: NDArray[np.int64]
    """Shape `(N,)`: the index of the most probable class."""


def require_finite(probabilities: Probabilities, *, model: Path) -> None:
    """Raise DataError if a model computed no numbers, as finite weights may that are too large or make no sense."""
    if not np.isfinite(probabilities).all():
        raise DataError(
            f"{model} gives probabilities that are not finite: its weights are damaged; name a folder that the train "
            "stage wrote"
        )


def write_predictions(
    path: Path, *, paths: Sequence[str], labels: NDArray[np.int64], probabilities: Probabilities, classes: Sequence[str]
) -> None:
    """Write a row an image: path, true class, predicted class, and the probability of each class to 9 digits.

    Args:
        path: the file.
        paths: N images.
        labels: shape `(N,)`, indices into `classes`.
        probabilities: shape `(N, C)`.
        classes: the names of C classes.
    """
    rows = (
        (image, classes[label], classes[row.argmax()], *(f"{p:.9g}" for p in row))
        for image, label, row in zip(paths, labels, probabilities, strict=True)
    )
    write_rows(path, _columns(classes), rows)


def read_predictions(path: Path, *, classes: Sequence[str], stage: str = "evaluate") -> Predictions:
    """Read what `write_predictions` wrote; DataError if it is missing, lacks a class or names another one."""
    rows = read_rows(path, _columns(classes), stage=stage)
    unknown = sorted({row[column] for row in rows for column in ("label", "predicted")} - set(classes))
    if unknown:
        raise DataError(f"{path} names the class {unknown[0]!r}, which data/splits.csv does not have; run `dvc repro`")
    return Predictions(
        paths=tuple(row["path"] for row in rows),
        labels=tuple(row["label"] for row in rows),
        probabilities=np.array([[parse_number(path, row, f"p_{name}") for name in classes] for row in rows]),
        predicted=np.array([classes.index(row["predicted"]) for row in rows]),
    )


def _columns(classes: Sequence[str]) -> list[str]:
    return ["path", "label", "predicted", *(f"p_{name}" for name in classes)]
