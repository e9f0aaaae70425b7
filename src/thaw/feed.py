"""What a phase feeds: features to the head, or augmented pictures to the whole model, in a random order.

What is random comes from generators named by seed, purpose, phase and epoch (and, for augmentation, picture): the
variants of one seed see the pictures in the same order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thaw.batches import batches, centre_view, normalise, random_stream, random_view
from thaw.dataset import LabelledPictures
from thaw.device import compiled, in_precision
from thaw.images import PicturesFile
from thaw.model import Classifier
from thaw.params import ComputeParams, Phase, TrainingParams
from thaw.processes import deal_batches, share_batches

ORDER, AUGMENTATION, LAYERS, MIXUP, CACHED_VIEW = 1, 2, 3, 4, 11
"""The names of the random streams of training; a number stays with its purpose."""

Batches = Iterable[tuple[Tensor, Tensor]]
"""Inputs, shape `(B, ...)`, float32, and targets, on the model's device.

Targets are labels, shape `(B,)`, int64, or, where mixup is on, shares of the classes, shape `(B, classes)`, float32.
"""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What a phase feeds to which part of the model; the only place where `head` and the others differ."""

    forward: Callable[[Tensor], Tensor]
    """The whole model, or its head alone."""

    train: Callable[[int, int], Batches]
    """The number of an epoch, and how many batches to leave out -> the others, in the epoch's random order.

    Of several processes, each gets its share of each batch.
    """

    val: Callable[[], Batches]
    """Of several processes, each gets some of the batches."""

    pictures: int
    """How many pictures an epoch of training has."""


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

    def order(epoch: int, batches_done: int) -> tuple[list[int], int]:
        shuffled = random_stream(seed, ORDER, number, epoch).permutation(len(train.paths))
        rest = [int(index) for index in shuffled[batches_done * params.batch_size :]]
        return share_batches(rest, batch_size=params.batch_size)

    def feature_batches(
        split: LabelledPictures, order: Sequence[int], batch_size: int, *, chosen: NDArray[np.int64]
    ) -> Batches:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield torch.from_numpy(split.views[rows, chosen[rows]]).to(device), _labels(split, rows, device)

    def random_views(epoch: int) -> NDArray[np.int64]:
        """Which of a picture's cached views an epoch sees, shape `(N,)`."""
        return random_stream(seed, CACHED_VIEW, number, epoch).integers(train.views.shape[1], size=len(train.paths))

    def augmented_batches(epoch: int, order: Sequence[int], batch_size: int) -> Batches:
        def view(index: int) -> NDArray[np.uint8]:
            random = random_stream(seed, AUGMENTATION, number, epoch, index)
            return random_view(pictures.read_pixels(train.paths[index]), model.preprocessing, random)

        for rows, views in batches(order, view, batch_size=batch_size):
            yield normalise(views, model.preprocessing, device), _labels(train, rows, device)

    def mixed(epoch: int, batches_done: int, unmixed: Batches) -> Batches:
        if params.mixup_alpha == 0:
            yield from unmixed
            return
        for batch, (inputs, labels) in enumerate(unmixed, start=batches_done):
            random = random_stream(seed, MIXUP, number, epoch, batch)
            yield mix_up(inputs, labels, classes=len(model.classes), alpha=params.mixup_alpha, random=random)

    validated = deal_batches(range(len(val.paths)), batch_size=params.batch_size)
    if phase.train == "head":
        return Feed(
            forward=model.head,
            train=lambda epoch, done: mixed(
                epoch, done, feature_batches(train, *order(epoch, done), chosen=random_views(epoch))
            ),
            val=lambda: feature_batches(val, validated, params.batch_size, chosen=np.zeros(len(val.paths), np.int64)),
            pictures=len(train.paths),
        )
    return Feed(
        forward=in_precision(compiled(model) if compute.compile else model, compute, device),
        train=lambda epoch, done: mixed(epoch, done, augmented_batches(epoch, *order(epoch, done))),
        val=lambda: picture_batches(model, val, pictures, order=validated, batch_size=params.batch_size),
        pictures=len(train.paths),
    )


def mix_up(
    inputs: Tensor, labels: Tensor, *, classes: int, alpha: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each input of a batch with another, and their labels likewise (mixup; Zhang et al., ICLR 2018).

    One share, drawn from Beta(alpha, alpha), holds for the whole batch, as in the authors' code. On features instead
    of pictures it is manifold mixup (Verma et al., ICML 2019) at the last layer.

    Args:
        inputs: shape `(B, ...)`, float32.
        labels: shape `(B,)`, int64.
        classes: how many there are.
        alpha: above 0; the smaller, the more a blend is like one of its two inputs.
        random: draws the share and who is blended with whom.

    Returns:
        The blends, shape `(B, ...)`, and the shares of the classes in them, shape `(B, classes)`, float32.
    """
    share = float(random.beta(alpha, alpha))
    partners = torch.from_numpy(random.permutation(len(labels))).to(labels.device)
    targets = nn.functional.one_hot(labels, classes).float()
    return torch.lerp(inputs[partners], inputs, share), torch.lerp(targets[partners], targets, share)


def picture_batches(
    model: Classifier, split: LabelledPictures, pictures: PicturesFile, *, order: Sequence[int], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The pictures of a split, those in `order`, not augmented, as `Batches`."""
    device = model.head.weight.device

    def view(index: int) -> NDArray[np.uint8]:
        return centre_view(pictures.read_pixels(split.paths[index]), model.preprocessing)

    for rows, views in batches(order, view, batch_size=batch_size):
        yield normalise(views, model.preprocessing, device), _labels(split, rows, device)


def _labels(split: LabelledPictures, rows: Sequence[int], device: torch.device) -> Tensor:
    return torch.from_numpy(split.labels[list(rows)]).to(device)
