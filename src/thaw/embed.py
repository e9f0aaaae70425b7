"""Pictures -> features, computed once: what a frozen backbone makes of every picture.

The backbone sees batches of one size alone, the last one filled up: how many pictures there are changes no picture's
features. Another `embed.batch_size`, or another number of threads, may change their last bits. So a run that was killed
goes on after any of its batches, and ends with the bytes of an undisturbed one.
"""

import hashlib
import json
import shutil
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
from thaw.backbones import Backbone, Preprocessing, build_backbone
from thaw.batches import batches, centre_view, normalise, random_stream, random_view
from thaw.checkpoint import Checkpoint, Checkpoints, noted_signals, run_key
from thaw.collectives import joined, merge_rows, require_same_inputs
from thaw.device import (
    choose_device,
    describe_device,
    keep_freed_memory,
    make_deterministic,
    memory_explained,
    peak_memory_mib,
)
from thaw.errors import DataError, TrainingError
from thaw.images import PicturesFile, Pixels
from thaw.inference import prepare_inference
from thaw.model import backbone_sha256
from thaw.params import FLOAT32, BackboneParams, ComputeParams
from thaw.processes import deal_batches, is_first, process_count, process_rank
from thaw.progress import progress

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """The features of all kept pictures."""

    paths: tuple[str, ...]
    """The pictures, in the order of the rows."""

    views: Features
    """Shape `(N, K, width)`, float32: of the centre view, and of K - 1 augmented ones."""

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
        """The rows of `paths`, in their order, shape `(len(paths), K, width)`.

        Raises:
            DataError: a picture has no features, since they were made from other pictures.
        """
        row = {path: number for number, path in enumerate(self.paths)}
        missing = [path for path in paths if path not in row]
        if missing:
            raise DataError(f"{len(missing)} pictures have no features, {missing[0]} for one; run `dvc repro embed`")
        return self.views[[row[path] for path in paths]]


@joined()
def embed_pictures(
    *,
    backbone: BackboneParams,
    batch_size: int,
    pictures: Path,
    features: Path,
    cost: Path,
    views: int = 1,
    compute: ComputeParams = FLOAT32,
    checkpoints: Path | None = None,
) -> None:
    """Write the features of every picture in the archive `pictures`, and what it cost to compute them.

    Args:
        backbone: what makes them; the features keep the hash of its weights as they were before any folding.
        batch_size: views in one forward pass.
        pictures: the archive.
        features: is written: a tensor of shape `(N, width)`, or `(N, views, width)` if there are several.
        cost: is written.
        views: how many of each picture; the first is the centre, the others are augmented.
        compute: how the device computes.
        checkpoints: a folder for what each process has computed so far, from which a run that was killed goes on; it is
            deleted at the end. None keeps nothing.

    Raises:
        TrainingError: the memory is too small, or SIGTERM or Ctrl-C came.
    """
    make_deterministic()
    keep_freed_memory()
    started_s = time.perf_counter()
    built = build_backbone(backbone)
    with PicturesFile(pictures) as archive:
        inputs = run_key(
            {
                "backbone": [backbone.model_dump(), backbone_sha256(built)],
                "pictures": archive.fingerprint(),
                "batches": [batch_size, views],
                "compute": compute.model_dump(),
            }
        )
        require_same_inputs(inputs)
        kept = None
        if checkpoints is not None:
            key = run_key({"inputs": inputs, "device": {**describe_device(), "processes": process_count()}})
            kept = Checkpoints(path=checkpoints / f"{process_rank()}.safetensors", key=key)
        with memory_explained(
            f"a batch of {batch_size} pictures of {backbone.image_size_px} px",
            remedy="set embed.batch_size, embed.views or backbone.image_size_px to less",
        ):
            made, earlier_s = _compute(
                archive, built, batch_size=batch_size, views=views, compute=compute, checkpoints=kept
            )
        paths = tuple(archive.paths)
    if not is_first():
        return
    with new_file(features) as temporary:
        # One entry: safetensors writes several in an order that differs from run to run.
        about = json.dumps({"backbone_sha256": backbone_sha256(built), "paths": paths})
        save_file({"features": made[:, 0] if views == 1 else made}, temporary, metadata={"about": about})
    seconds = time.perf_counter() - started_s + earlier_s
    write_json(
        cost,
        {
            "pictures": len(paths),
            "seconds": seconds,
            "pictures_per_second": len(paths) / seconds,
            "views": views,
            "peak_memory_mib": peak_memory_mib(choose_device()),
            "device": choose_device().type,
            "threads": torch.get_num_threads(),
            "processes": process_count(),
        },
    )
    if checkpoints is not None:
        shutil.rmtree(checkpoints, ignore_errors=True)


def _compute(
    archive: PicturesFile,
    backbone: Backbone,
    *,
    batch_size: int,
    views: int,
    compute: ComputeParams,
    checkpoints: Checkpoints | None,
) -> tuple[Features, float]:
    """The features of an archive's pictures, shape `(N, views, width)`, and the seconds that earlier tries took."""
    started_s = time.perf_counter()
    device = choose_device()
    forward = prepare_inference(backbone.module, compute, device)
    pictures_at_once = max(1, batch_size // views)
    paths = archive.paths
    features = np.zeros((len(paths), views, backbone.width), np.float32)
    order = deal_batches(range(len(paths)), batch_size=pictures_at_once)
    saved = None if checkpoints is None else checkpoints.load()
    done, earlier_s = 0, 0.0
    if saved is not None:
        done, earlier_s = saved.position["pictures"], saved.position["seconds"]
        features[order[:done]] = saved.tensors["features"].numpy()

    def views_of(index: int) -> Pixels:
        return _cut_views(archive.read_pixels(paths[index]), paths[index], backbone.preprocessing, count=views)

    label = "embed, going on" if done else "embed"
    shown = progress(label, total=len(order), unit="pictures", done=done)
    with torch.inference_mode(), noted_signals() as stopped_by, shown as bar:
        for rows, cut in batches(order[done:], views_of, batch_size=pictures_at_once):
            full = np.resize(cut, (pictures_at_once * views, *cut.shape[2:]))  # the last batch: filled by repeating
            made = forward(normalise(full, backbone.preprocessing, device)).cpu().numpy()  # (B, width)
            features[rows] = made[: len(rows) * views].reshape(len(rows), views, backbone.width)
            bar.update(len(rows))
            done += len(rows)
            signal = stopped_by()
            # Who has done its share of several waits for the others, and may be ended while it waits.
            waits = process_count() > 1 and done == len(order)
            if checkpoints is not None and (signal or waits or checkpoints.are_due()):
                position = {"pictures": done, "seconds": earlier_s + time.perf_counter() - started_s}
                so_far = torch.from_numpy(features[order[:done]])
                checkpoints.save(Checkpoint(position=position, tensors={"features": so_far}))
            if signal:
                then = "start again" if checkpoints is None else "go on from there"
                place = f"after {done:,} of {len(order):,} pictures"
                raise TrainingError(f"embed: stopped by {signal} {place}; run the same command to {then}")
    return merge_rows(features), earlier_s


def _cut_views(pixels: Pixels, path: str, preprocessing: Preprocessing, *, count: int) -> Pixels:
    """The centre view and `count` - 1 augmented ones, shape `(count, S, S, 3)`, uint8.

    What is random depends on the picture's path and the view's number alone.
    """
    name = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8])
    augmented = (random_view(pixels, preprocessing, random_stream(name, number)) for number in range(1, count))
    return np.stack([centre_view(pixels, preprocessing), *augmented])


def read_features(path: Path) -> FeatureTable:
    """Read what `embed_pictures` wrote; DataError if it is missing."""
    if not path.exists():
        raise DataError(f"{path} does not exist: run the embed stage")
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["about"])
        tensor = file.get_tensor("features")
        return FeatureTable(
            paths=tuple(about["paths"]),
            backbone_sha256=about["backbone_sha256"],
            views=tensor if tensor.ndim == 3 else tensor[:, None],
        )
