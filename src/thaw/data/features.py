"""features.safetensors: what the frozen backbone makes of every image; the writer beside the reader."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from thaw.data.splits_csv import Split, SplitTable
from thaw.errors import DataError
from thaw.utils.atomic import new_file
from thaw.utils.records import open_tensors

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """The features of all kept images."""

    paths: tuple[str, ...]
    """The images, in the order of the rows."""

    views: Features
    """Shape `(N, K, width)`, float32: of the centre view, and of K - 1 augmented ones."""

    backbone_sha256: str
    """The backbone that made them, by `classifier.module_sha256`."""

    def require_made_by(self, *, name: str, backbone_sha256: str) -> None:
        """Raise DataError if these are another backbone's features."""
        if backbone_sha256 != self.backbone_sha256:
            raise DataError(
                f"the features were made by another {name} (did its weights file change?); "
                "run `dvc repro --force --single-item embed`"
            )

    def select(self, paths: Sequence[str]) -> Features:
        """The rows of `paths`, in their order, shape `(len(paths), K, width)`.

        Raises:
            DataError: an image has no features, since they were made from other images.
        """
        row = {path: number for number, path in enumerate(self.paths)}
        missing = [path for path in paths if path not in row]
        if missing:
            raise DataError(f"{len(missing)} images have no features, {missing[0]} for one; run `dvc repro embed`")
        return self.views[[row[path] for path in paths]]


def write_features(path: Path, table: FeatureTable) -> None:
    """Write one tensor of shape `(N, width)`, or `(N, K, width)` if there are several views."""
    # One entry: safetensors writes several in an order that differs from run to run.
    about = json.dumps({"backbone_sha256": table.backbone_sha256, "paths": table.paths})
    tensor = table.views[:, 0] if table.views.shape[1] == 1 else table.views
    with new_file(path) as temporary:
        save_file({"features": tensor}, temporary, metadata={"about": about})


def read_features(path: Path) -> FeatureTable:
    """Read what `write_features` wrote; DataError if it is missing or damaged."""
    with open_tensors(path, framework="numpy", stage="embed") as file:
        about = json.loads(file.metadata()["about"])
        tensor = file.get_tensor("features")
        return FeatureTable(
            paths=tuple(about["paths"]),
            backbone_sha256=about["backbone_sha256"],
            views=tensor if tensor.ndim == 3 else tensor[:, None],
        )


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """One split: which images, what they show, and their features."""

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


def select_split(split: Split, *, splits: SplitTable, features: FeatureTable, classes: Sequence[str]) -> LabelledImages:
    """The images of one split with their features.

    Raises:
        DataError: the features were made from other images, or a label is not among `classes`.
    """
    unknown = sorted(set(splits.labels) - set(classes))
    if unknown:
        raise DataError(f"data/splits.csv has the class {unknown[0]!r}, which the model does not know; run `dvc repro`")
    rows = [row for row, name in enumerate(splits.splits) if name == split]
    paths = tuple(splits.paths[row] for row in rows)
    labels = np.array([classes.index(splits.labels[row]) for row in rows], np.int64)
    return LabelledImages(paths=paths, labels=labels, views=features.select(paths))
