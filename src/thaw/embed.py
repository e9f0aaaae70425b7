"""Pictures -> features, computed once: what a frozen backbone makes of every picture."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from thaw.atomic import new_file, write_json
from thaw.backbones import Backbone, build_backbone
from thaw.batches import batches, centre_view, normalise
from thaw.collectives import joined, merge_rows
from thaw.device import choose_device, make_deterministic, memory_explained, peak_memory_mib
from thaw.errors import DataError
from thaw.images import PicturesFile
from thaw.model import backbone_sha256
from thaw.params import BackboneParams
from thaw.processes import deal_batches, is_first, process_count
from thaw.progress import progress

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """The features of all kept pictures."""

    paths: tuple[str, ...]
    """The pictures, in the order of the rows."""

    features: Features
    """Shape `(N, width)`, float32."""

    backbone_sha256: str
    """The backbone that made them, by `model.backbone_sha256`."""

    def require_made_by(self, backbone: Backbone) -> None:
        """Raise DataError if these are another backbone's features: DVC does not see a changed weights file."""
        if backbone_sha256(backbone) != self.backbone_sha256:
            raise DataError(
                f"the features were made by another {backbone.name} (did its weights file change?); "
                "run `dvc repro --force --single-item embed`"
            )

    def select(self, paths: Sequence[str]) -> Features:
        """The rows of `paths`, in their order, shape `(len(paths), width)`.

        Raises:
            DataError: a picture has no features, since they were made from other pictures.
        """
        row = {path: number for number, path in enumerate(self.paths)}
        missing = [path for path in paths if path not in row]
        if missing:
            raise DataError(f"{len(missing)} pictures have no features, {missing[0]} for one; run `dvc repro embed`")
        return self.features[[row[path] for path in paths]]


@joined()
def embed_pictures(*, backbone: BackboneParams, batch_size: int, pictures: Path, features: Path, cost: Path) -> None:
    """Write the features of every picture in the archive `pictures`, and what it cost to compute them."""
    make_deterministic()
    started_s = time.perf_counter()
    built = build_backbone(backbone)
    with memory_explained(
        f"a batch of {batch_size} pictures of {backbone.image_size_px} px",
        remedy="set embed.batch_size, or backbone.image_size_px, to less",
    ):
        paths, rows = _compute(pictures, built, batch_size=batch_size)
    if not is_first():
        return
    with new_file(features) as temporary:
        # One entry: safetensors writes several in an order that differs from run to run.
        about = json.dumps({"backbone_sha256": backbone_sha256(built), "paths": paths})
        save_file({"features": rows}, temporary, metadata={"about": about})
    seconds = time.perf_counter() - started_s
    write_json(
        cost,
        {
            "pictures": len(paths),
            "seconds": seconds,
            "pictures_per_second": len(paths) / seconds,
            "peak_memory_mib": peak_memory_mib(choose_device()),
            "device": choose_device().type,
            "threads": torch.get_num_threads(),
            "processes": process_count(),
        },
    )


def _compute(pictures: Path, backbone: Backbone, *, batch_size: int) -> tuple[tuple[str, ...], Features]:
    """The pictures of an archive and their features, shape `(N, width)`."""
    device = choose_device()
    module = backbone.module.to(device)
    with PicturesFile(pictures) as archive:
        paths = tuple(archive.paths)
        features = np.zeros((len(paths), backbone.width), np.float32)
        order = deal_batches(range(len(paths)), batch_size=batch_size)

        def view(index: int) -> NDArray[np.uint8]:
            return centre_view(archive.read_pixels(paths[index]), backbone.preprocessing)

        with torch.inference_mode(), progress("embed", total=len(order), unit="pictures") as bar:
            for rows, views in batches(order, view, batch_size=batch_size):
                made = module(normalise(views, backbone.preprocessing, device))  # (B, width)
                features[rows] = made.float().cpu().numpy()
                bar.update(len(rows))
    return paths, merge_rows(features)


def read_features(path: Path) -> FeatureTable:
    """Read what `embed_pictures` wrote; DataError if it is missing."""
    if not path.exists():
        raise DataError(f"{path} does not exist: run the embed stage")
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["about"])
        return FeatureTable(
            paths=tuple(about["paths"]),
            backbone_sha256=about["backbone_sha256"],
            features=file.get_tensor("features"),
        )
