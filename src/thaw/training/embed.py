"""Images -> features, computed once: what a frozen backbone makes of every image.

The backbone sees batches of one size alone, the last one filled up: how many images there are changes no image's
features. Another `embed.batch_size` or `compute.threads` may change their last bits. So a run that was killed
resumes after any of its batches, and ends with the bytes of an undisturbed one.
"""

import shutil
import time
from pathlib import Path

import numpy as np
import torch

from thaw.compute.collectives import all_reduce_rows, process_group, require_same_inputs
from thaw.compute.determinism import make_deterministic
from thaw.compute.device import choose_device, describe_device, peak_memory_mib
from thaw.compute.memory import explain_out_of_memory, keep_freed_memory
from thaw.data.features import Features, FeatureTable, write_features
from thaw.data.image_zip import ImageZip
from thaw.errors import TrainingError
from thaw.network.backbone import Backbone, write_backbone
from thaw.network.backbones import build_backbone
from thaw.network.classifier import module_sha256
from thaw.network.fusion import fuse_for_inference
from thaw.params import FLOAT32, BackboneParams, ComputeParams, EmbedParams
from thaw.training.checkpoint import Checkpointer, run_key
from thaw.training.cost_json import EmbedCost, write_cost
from thaw.training.flops import count_forward_flops
from thaw.training.infer_views import images_at_once, infer_views
from thaw.utils.progress import progress
from thaw.utils.ranks import is_main_process, rank, shard_by_batch, world_size
from thaw.utils.signals import capture_signals


@process_group()
def embed_images(
    *,
    backbone: BackboneParams,
    embed: EmbedParams,
    compute: ComputeParams = FLOAT32,
    images: Path,
    features: Path,
    weights: Path,
    cost: Path,
    checkpoints: Path | None = None,
) -> None:
    """Write the features of every image in the archive `images`, what made them, and what it cost to compute them.

    Args:
        backbone: what makes them; the features keep the hash of its weights as they were before any folding.
        embed: views in one forward pass, and how many there are of each image; the first is the centre, the others are
            augmented.
        compute: how the device computes.
        images: the archive.
        features: is written.
        weights: is written: the backbone, for those who need to know it but not to run it.
        cost: is written.
        checkpoints: a folder for what each process has computed so far, from which a run that was killed resumes; it is
            deleted at the end. None keeps nothing.

    Raises:
        TrainingError: the memory is too small, or SIGTERM or Ctrl-C came.
    """
    make_deterministic(compute)
    keep_freed_memory()
    started_s = time.perf_counter()
    built = build_backbone(backbone)
    backbone_sha256 = module_sha256(built.module)
    with ImageZip(images) as archive:
        inputs_sha256 = run_key(
            {
                "backbone": [backbone.model_dump(), backbone_sha256],
                "images": archive.fingerprint(),
                "embed": embed.model_dump(),
                "compute": compute.model_dump(),
            },
            module="training.embed",
        )
        require_same_inputs(inputs_sha256)
        checkpointer = None
        if checkpoints is not None:
            device = {**describe_device(), "processes": world_size()}
            key = run_key({"inputs": inputs_sha256, "device": device}, module="training.embed")
            checkpointer = Checkpointer(path=checkpoints / f"{rank()}.pt", key=key)
        with explain_out_of_memory(
            f"a batch of {embed.batch_size} images of {backbone.image_size_px} px",
            remedy="set embed.batch_size, embed.views or backbone.image_size_px to less",
        ):
            made, earlier_s = _compute(archive, built, embed=embed, compute=compute, checkpointer=checkpointer)
        names = tuple(archive.paths)
    if not is_main_process():
        return
    write_features(features, FeatureTable(paths=names, views=made, backbone_sha256=backbone_sha256))
    write_backbone(weights, built, params=backbone)
    seconds = time.perf_counter() - started_s + earlier_s
    write_cost(
        cost,
        EmbedCost(
            images=len(names),
            seconds=seconds,
            images_per_second=len(names) / seconds,
            views=embed.views,
            flops=len(names) * embed.views * count_forward_flops(built.module, size_px=backbone.image_size_px),
            peak_memory_mib=peak_memory_mib(choose_device()),
            device=choose_device().type,
            threads=torch.get_num_threads(),
            processes=world_size(),
        ),
    )
    if checkpoints is not None:
        shutil.rmtree(checkpoints, ignore_errors=True)


def _compute(
    archive: ImageZip,
    backbone: Backbone,
    *,
    embed: EmbedParams,
    compute: ComputeParams,
    checkpointer: Checkpointer | None,
) -> tuple[Features, float]:
    """The features of an archive's images, shape `(N, views, width)`, and the seconds that earlier tries took."""
    started_s = time.perf_counter()
    device, views = choose_device(), embed.views
    forward = fuse_for_inference(backbone.module, compute, device)
    paths = archive.paths
    features = np.zeros((len(paths), views, backbone.width), np.float32)
    order = shard_by_batch(range(len(paths)), batch_size=images_at_once(embed.batch_size, views=views))
    saved = None if checkpointer is None else checkpointer.load()
    done, earlier_s = 0, 0.0
    if saved is not None:
        done, earlier_s = saved["images"], saved["seconds"]
        features[order[:done]] = saved["features"].numpy()

    label = "embed, resumed" if done else "embed"
    shown = progress(label, total=len(order), unit="images", done=done)
    with capture_signals() as stopped_by, shown as bar:
        made_in_order = infer_views(
            forward,
            archive,
            [paths[row] for row in order[done:]],
            preprocessing=backbone.preprocessing,
            views=views,
            batch_size=embed.batch_size,
            compute=compute,
            device=device,
        )
        for made in made_in_order:
            rows = order[done : done + len(made)]
            features[rows] = made
            bar.update(len(rows))
            done += len(rows)
            signal = stopped_by()
            # Who has done its share of several waits for the others, and may be ended while it waits.
            waits = world_size() > 1 and done == len(order)
            if checkpointer is not None and (signal or waits or checkpointer.is_due()):
                seconds = earlier_s + time.perf_counter() - started_s
                so_far = torch.from_numpy(features[order[:done]])
                checkpointer.save({"images": done, "seconds": seconds, "features": so_far})
            if signal:
                then = "start again" if checkpointer is None else "resume"
                place = f"after {done:,} of {len(order):,} images"
                raise TrainingError(f"embed: stopped by {signal} {place}; run the same command to {then}")
    return all_reduce_rows(features), earlier_s
