"""What a phase feeds: features to the head, or augmented pictures to the whole model, in a random order.

What is random comes from generators named by seed, purpose, phase and epoch (and, for augmentation, picture): the
variants of one seed see the pictures in the same order.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thaw.batches import batches, centre_view, normalise, random_stream, random_view
from thaw.dataset import LabelledPictures
from thaw.device import in_precision
from thaw.images import PicturesFile
from thaw.model import Classifier
from thaw.params import ComputeParams, Phase, TrainingParams

ORDER, AUGMENTATION, LAYERS, CACHED_VIEW = 1, 2, 3, 11
"""The names of the random streams of training; a number stays with its purpose."""

Batches = Iterable[tuple[Tensor, Tensor]]
"""Inputs, shape `(B, ...)`, and labels, shape `(B,)`, int64, on the model's device."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What a phase feeds to which part of the model; the only place where `head` and `all` differ."""

    forward: Callable[[Tensor], Tensor]
    """The whole model, or its head alone."""

    train: Callable[[int], Batches]
    """The number of an epoch -> its batches, in their random order."""

    val: Callable[[], Batches]

    steps: int
    """How many batches an epoch of training has."""


def make_feed(
    model: Classifier,
    phase: Phase,
    *,
    number: int,
    train: LabelledPictures,
    val: LabelledPictures,
    pictures: PicturesFile,
    params: TrainingParams,
    compute: ComputeParams,
    seed: int,
) -> Feed:
    """What the phase `number` of a variant, counted from 0, feeds; see `fit` for the other arguments."""
    device = model.head.weight.device
    steps = math.ceil(len(train.paths) / params.batch_size)

    def order(epoch: int) -> list[int]:
        shuffled = random_stream(seed, ORDER, number, epoch).permutation(len(train.paths))
        return [int(index) for index in shuffled]

    def feature_batches(split: LabelledPictures, order: Sequence[int], chosen: NDArray[np.int64]) -> Batches:
        for start in range(0, len(order), params.batch_size):
            rows = order[start : start + params.batch_size]
            yield torch.from_numpy(split.views[rows, chosen[rows]]).to(device), _labels(split, rows, device)

    def random_views(epoch: int) -> NDArray[np.int64]:
        """Which of a picture's cached views an epoch sees, shape `(N,)`."""
        return random_stream(seed, CACHED_VIEW, number, epoch).integers(train.views.shape[1], size=len(train.paths))

    def augmented_batches(epoch: int) -> Batches:
        def view(index: int) -> NDArray[np.uint8]:
            random = random_stream(seed, AUGMENTATION, number, epoch, index)
            return random_view(pictures.read_pixels(train.paths[index]), model.preprocessing, random)

        for rows, views in batches(order(epoch), view, batch_size=params.batch_size):
            yield normalise(views, model.preprocessing, device), _labels(train, rows, device)

    if phase.train == "head":
        return Feed(
            forward=model.head,
            train=lambda epoch: feature_batches(train, order(epoch), random_views(epoch)),
            val=lambda: feature_batches(val, range(len(val.paths)), np.zeros(len(val.paths), np.int64)),
            steps=steps,
        )
    return Feed(
        forward=in_precision(torch.compile(model) if compute.compile else model, compute, device),
        train=augmented_batches,
        val=lambda: picture_batches(model, val, pictures, batch_size=params.batch_size),
        steps=steps,
    )


def picture_batches(
    model: Classifier, split: LabelledPictures, pictures: PicturesFile, *, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The pictures of a split in order, not augmented, as `Batches`."""
    device = model.head.weight.device

    def view(index: int) -> NDArray[np.uint8]:
        return centre_view(pictures.read_pixels(split.paths[index]), model.preprocessing)

    for rows, views in batches(range(len(split.paths)), view, batch_size=batch_size):
        yield normalise(views, model.preprocessing, device), _labels(split, rows, device)


def _labels(split: LabelledPictures, rows: Sequence[int], device: torch.device) -> Tensor:
    return torch.from_numpy(split.labels[list(rows)]).to(device)
