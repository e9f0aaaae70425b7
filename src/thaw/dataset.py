"""splits.csv and features -> the pictures of one split, with their labels and features."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thaw.embed import Features, FeatureTable
from thaw.errors import DataError

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class LabelledPictures:
    """One split: which pictures, what they show, and the features that `embed` made of them."""

    paths: tuple[str, ...]

    labels: NDArray[np.int64]
    """Shape `(N,)`, indices into the classes."""

    views: Features
    """Shape `(N, K, width)`, float32: features of the centre view, and of K - 1 augmented ones."""

    @property
    def features(self) -> Features:
        """Of the centre views, shape `(N, width)`, float32."""
        return self.views[:, 0]

    def fingerprint(self) -> str:
        """A hash over all of it."""
        digest = hashlib.blake2b("\0".join(self.paths).encode())
        for array in (self.labels, self.views):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """splits.csv in memory: which picture shows what, and in which split it is."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted; a label is an index into them."""
        return tuple(sorted(set(self.labels)))

    def select(self, split: Split, *, features: FeatureTable, classes: Sequence[str]) -> LabelledPictures:
        """The pictures of one split.

        Raises:
            DataError: the features were made from other pictures, or a label is not among `classes`.
        """
        unknown = sorted(set(self.labels) - set(classes))
        if unknown:
            raise DataError(
                f"data/splits.csv has the class {unknown[0]!r}, which the model does not know; run `dvc repro`"
            )
        rows = [row for row, name in enumerate(self.splits) if name == split]
        paths = tuple(self.paths[row] for row in rows)
        labels = np.array([classes.index(self.labels[row]) for row in rows], np.int64)
        return LabelledPictures(paths=paths, labels=labels, views=features.select(paths))


def read_assignment(path: Path) -> Assignment:
    """Read the splits.csv that the stage `split` wrote; DataError if it is missing."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: run the split stage") from None
    return Assignment(
        paths=tuple(row["path"] for row in rows),
        labels=tuple(row["label"] for row in rows),
        splits=tuple(row["split"] for row in rows),
    )
