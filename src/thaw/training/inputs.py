"""What a phase sees: features for the head, or augmented images for the whole model, in a random order.

What is random comes from generators named by seed, purpose, phase and epoch (and, for augmentation, image): the
variants of one seed see the images in the same order.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thaw.compute.precision import compiled, in_precision
from thaw.data.features import LabelledImages
from thaw.data.image_zip import ImageZip
from thaw.data.loader import batches
from thaw.data.transforms import centre_view, normalise, random_view
from thaw.network.classifier import Classifier
from thaw.params import ComputeParams, Phase, TrainingParams
from thaw.training.optim import weigh_classes
from thaw.utils.random_streams import random_stream
from thaw.utils.ranks import shard_by_batch, shard_each_batch

ORDER, AUGMENTATION, LAYERS, MIXUP, CACHED_VIEW = 1, 2, 3, 4, 11
"""The names of the random streams of training; a number stays with its purpose."""

Batches = Iterable[tuple[Tensor, Tensor]]
"""Inputs, shape `(B, ...)`, float32, and targets, on the model's device.

Targets are labels, shape `(B,)`, int64, or, where mixup is on, shares of the classes, shape `(B, classes)`, float32.
"""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a model is trained on."""

    train: LabelledImages
    """What is learnt from."""

    val: LabelledImages
    """What decides when to stop, and which epoch is kept."""

    images: ImageZip
    """The archive that holds the images of both; `head` phases do not read it."""


@dataclass(frozen=True, kw_only=True)
class PhaseInputs:
    """What a phase shows to which part of the model; the only place where `head` and the others differ."""

    forward: Callable[[Tensor], Tensor]
    """The whole model, or its head alone."""

    train: Callable[[int, int], Batches]
    """The number of an epoch, and how many batches to leave out -> the others, in the epoch's random order.

    Of several processes, each gets its share of each batch.
    """

    val: Callable[[], Batches]
    """Of several processes, each gets some of the batches."""

    images: int
    """How many images an epoch of training has."""

    val_images: int
    """How many images its validation has."""

    class_weights: Tensor | None
    """How much a training image of each class counts, shape `(classes,)`, float32; None: all alike."""

    val_class_weights: Tensor | None
    """The same of validation images."""


def build_inputs(
    model: Classifier,
    phase: Phase,
    *,
    number: int,
    data: TrainingData,
    params: TrainingParams,
    compute: ComputeParams,
    seed: int,
) -> PhaseInputs:
    """The inputs of the phase `number` of a variant, counted from 0; see `loop.fit` for the other arguments."""
    device = model.head.weight.device
    train, val = data.train, data.val
    val_order = shard_by_batch(range(len(val.paths)), batch_size=params.batch_size)
    class_weights, val_class_weights = (
        None if weights is None else torch.from_numpy(weights).float().to(device)
        for weights in (weigh_classes(s.labels, classes=len(model.classes), params=params) for s in (train, val))
    )

    def order(epoch: int, batches_done: int) -> tuple[list[int], int]:
        shuffled = random_stream(seed, ORDER, number, epoch).permutation(len(train.paths))
        rest = [int(index) for index in shuffled[batches_done * params.batch_size :]]
        return shard_each_batch(rest, batch_size=params.batch_size)

    def mixed(epoch: int, batches_done: int, unmixed: Batches) -> Batches:
        if params.mixup_alpha == 0:
            yield from unmixed
            return
        for batch, (inputs, labels) in enumerate(unmixed, start=batches_done):
            random = random_stream(seed, MIXUP, number, epoch, batch)
            yield mix_up(inputs, labels, classes=len(model.classes), alpha=params.mixup_alpha, random=random)

    if phase.train == "head":

        def train_features(epoch: int, done: int) -> Batches:
            views = random_stream(seed, CACHED_VIEW, number, epoch).integers(
                train.views.shape[1], size=len(train.paths)
            )
            return _feature_batches(train, *order(epoch, done), views=views, device=device)

        centre = np.zeros(len(val.paths), np.int64)
        return PhaseInputs(
            forward=model.head,
            train=lambda epoch, done: mixed(epoch, done, train_features(epoch, done)),
            val=lambda: _feature_batches(val, val_order, params.batch_size, views=centre, device=device),
            images=len(train.paths),
            val_images=len(val.paths),
            class_weights=class_weights,
            val_class_weights=val_class_weights,
        )

    def augmented(epoch: int, done: int) -> Batches:
        def view(index: int) -> NDArray[np.uint8]:
            random = random_stream(seed, AUGMENTATION, number, epoch, index)
            return random_view(data.images.read_image(train.paths[index]), model.preprocessing, random)

        return _image_batches(model, train, view, *order(epoch, done))

    def centre_views() -> Batches:
        def view(index: int) -> NDArray[np.uint8]:
            return centre_view(data.images.read_image(val.paths[index]), model.preprocessing)

        return _image_batches(model, val, view, val_order, params.batch_size)

    return PhaseInputs(
        forward=in_precision(compiled(model) if compute.compile else model, compute, device),
        train=lambda epoch, done: mixed(epoch, done, augmented(epoch, done)),
        val=centre_views,
        images=len(train.paths),
        val_images=len(val.paths),
        class_weights=class_weights,
        val_class_weights=val_class_weights,
    )


def mix_up(
    inputs: Tensor, labels: Tensor, *, classes: int, alpha: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each input of a batch with another, and their labels likewise (mixup; Zhang et al., ICLR 2018).

    One share, drawn from Beta(alpha, alpha), holds for the whole batch, as in the authors' code. On features instead
    of images it is manifold mixup (Verma et al., ICML 2019) at the last layer.

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


def _feature_batches(
    split: LabelledImages, order: Sequence[int], batch_size: int, *, views: NDArray[np.int64], device: torch.device
) -> Batches:
    """Features of the images in `order`; `views`, shape `(N,)`, says which cached view stands for each image."""
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield torch.from_numpy(split.views[rows, views[rows]]).to(device), _labels(split, rows, device)


def _image_batches(
    model: Classifier,
    split: LabelledImages,
    view: Callable[[int], NDArray[np.uint8]],
    order: Sequence[int],
    batch_size: int,
) -> Batches:
    """The images in `order` as `view` cuts them, normalised for the backbone."""
    device = model.head.weight.device
    for rows, views in batches(order, view, batch_size=batch_size):
        yield normalise(views, model.preprocessing, device), _labels(split, rows, device)


def _labels(split: LabelledImages, rows: Sequence[int], device: torch.device) -> Tensor:
    return torch.from_numpy(split.labels[list(rows)]).to(device)
