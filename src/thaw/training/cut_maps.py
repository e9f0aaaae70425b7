"""Maps at the cut: what the blocks below those that a phase trains make of K views of each image, computed once.

They stay in memory and are never written: computed again, after a kill, they have the same bytes.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import psutil

from thaw.compute.collectives import all_reduce_rows
from thaw.compute.cores import count_processes
from thaw.compute.device import choose_device
from thaw.data.features import Features, LabelledImages
from thaw.data.image_zip import ImageZip
from thaw.errors import ConfigError, TrainingError
from thaw.network.classifier import Classifier
from thaw.network.cut import CutModel, require_cut
from thaw.params import ComputeParams, Phase
from thaw.training.infer_views import images_at_once, infer_views
from thaw.utils.progress import progress
from thaw.utils.ranks import shard_by_batch
from thaw.utils.signals import capture_signals

_REDUCED_AT_ONCE = 4096
"""Images whose maps several processes exchange in one go, which takes that much memory once more."""


@dataclass(kw_only=True)
class CutMaps:
    """The maps of one run's images; its candidates share them as long as the weights below the cut are the same."""

    name: str
    """Of the run, for progress and errors."""

    images: ImageZip

    batch_size: int
    """Views in one forward pass."""

    compute: ComputeParams

    _below_sha256: str = field(default="", init=False)
    """Of the weights that made what is kept."""

    _kept: dict[tuple[tuple[str, ...], int], Features] = field(default_factory=dict, init=False)
    """(images, views of each) -> maps."""

    def require_memory(self, model: Classifier, phase: Phase, *, train: int, val: int, place: str) -> None:
        """Raise ConfigError if a phase's maps cannot be computed, or do not fit into memory.

        Args:
            model: its shapes count.
            phase: one with `views`.
            train: how many training images there are.
            val: how many validation images.
            place: the parameter that the message begins with.
        """
        assert phase.views is not None
        map_bytes = 4 * math.prod(require_cut(model, phase, place=place).shape)
        needed = map_bytes * (train * phase.views + val)
        # What is kept makes room for these, or is these.
        free = psutil.virtual_memory().available // count_processes()
        free += sum(maps.nbytes for maps in self._kept.values())
        if needed > free:
            fit = (free // map_bytes - val) // train
            remedy = f"set it to {fit} or less, or remove it" if fit > 0 else "remove it, or train fewer blocks"
            raise ConfigError(
                f"{place}: the maps of {phase.views} views below {phase.train} of {train:,} images take "
                f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free; {remedy}"
            )

    def of(
        self, split: LabelledImages, model: Classifier, cut: CutModel, *, views: int, below_sha256: str
    ) -> LabelledImages:
        """A split with maps, shape `(N, views, *cut.shape)`, in place of features; computed if they are not kept.

        Args:
            split: whose images.
            model: it says how images are prepared.
            cut: of the model.
            views: of each image.
            below_sha256: of the weights below the cut, which a phase leaves as they are: hashed once, not each epoch.

        Raises:
            TrainingError: SIGTERM or Ctrl-C came meanwhile.
        """
        if below_sha256 != self._below_sha256:
            self._kept.clear()
            self._below_sha256 = below_sha256
        if (split.paths, views) not in self._kept:
            # Those of another number of views make room.
            for other in [key for key in self._kept if key[0] == split.paths]:
                del self._kept[other]
            self._kept[split.paths, views] = self._compute(split.paths, model, cut, views=views)
        return replace(split, views=self._kept[split.paths, views])

    def _compute(self, paths: Sequence[str], model: Classifier, cut: CutModel, *, views: int) -> Features:
        # Here: a head on features is trained without torchvision and timm.
        from thaw.network.fusion import fuse_for_inference

        device, count = choose_device(), len(paths)
        order = shard_by_batch(range(count), batch_size=images_at_once(self.batch_size, views=views))
        maps = np.zeros((count, views, *cut.shape), np.float32)
        label = f"{self.name}, maps at the cut"
        with capture_signals() as stopped_by, progress(label, total=len(order), unit="images") as bar:
            made_in_order = infer_views(
                fuse_for_inference(copy.deepcopy(cut.below).eval(), self.compute, device),
                self.images,
                [paths[row] for row in order],
                preprocessing=model.preprocessing,
                views=views,
                batch_size=self.batch_size,
                compute=self.compute,
                device=device,
            )
            done = 0
            for made in made_in_order:
                maps[order[done : done + len(made)]] = made
                done += len(made)
                bar.update(len(made))
                if signal := stopped_by():
                    raise TrainingError(f"{label}: stopped by {signal}; run the same command to resume")
        for start in range(0, count, _REDUCED_AT_ONCE):
            rows = slice(start, start + _REDUCED_AT_ONCE)
            maps[rows] = all_reduce_rows(maps[rows])
        return maps


def count_maps_flops(needed: Sequence[Mapping[str, int]]) -> int:
    """What the maps of all candidates took, as `CutMaps.of` computes them, in a run that nothing stopped.

    Args:
        needed: of each candidate in turn, by "{hash of the weights below}-{split}-{views}", in the order of its phases.
    """
    kept: dict[str, str] = {}  # split -> views
    flops, kept_below = 0, ""
    for key, cost in chain.from_iterable(maps.items() for maps in needed):
        below, split, views = key.split("-")
        if below != kept_below:
            kept, kept_below = {}, below
        if kept.get(split) != views:
            kept[split] = views
            flops += cost
    return flops
