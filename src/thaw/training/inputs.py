"""What a phase sees, in a random order: augmented images, or what was computed once below the head or the last blocks.

What is random comes from generators named by seed, purpose, phase and epoch (and, for augmentation, image): the
variants of one seed see the images in the same order.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thaw.compute.precision import compiled, in_precision
from thaw.data.features import LabelledImages
from thaw.data.image_zip import ImageZip
from thaw.data.loader import batches
from thaw.data.tensors import normalise
from thaw.data.transforms import centre_view, random_view
from thaw.network.classifier import Classifier, module_sha256
from thaw.network.cut import require_cut
from thaw.params import ComputeParams, Phase, TrainingParams
from thaw.training.cut_maps import CutMaps
from thaw.training.flops import count_forward_flops
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
    """The whole model, or what the phase trains of it."""

    train: Callable[[int, int], Batches]
    """The number of an epoch, and how many batches to leave out -> the others, in the epoch's random order.

    Of several processes, each gets its share of each batch.
    """

    val: Callable[[], Batches]
    """Of several processes, each gets some of the batches."""

    once_flops: Mapping[str, int]
    """Floating-point operations of maps at a cut, under the name of what computes them; empty where there are none."""

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
    cut_maps: CutMaps | None = None,
) -> PhaseInputs:
    """The inputs of the phase `number` of a variant, counted from 0; see `loop.fit` for the other arguments.

    A phase with `views` needs `cut_maps`.

    Raises:
        ConfigError: the phase has `views`, and nothing of the model can be computed once.
    """
    device = model.head.weight.device
    train, val = data.train, data.val
    val_order = shard_by_batch(range(len(val.paths)), batch_size=params.batch_size)
    class_weights, val_class_weights = (
        None if weights is None else torch.from_numpy(weights).float().to(device)
        for weights in (weigh_classes(s.labels, classes=len(model.classes), params=params) for s in (train, val))
    )
    if phase.sees_images:
        feed = _feed_images(model, number=number, data=data, compute=compute, seed=seed)
    else:
        feed = _feed_cached(model, phase, number=number, data=data, compute=compute, seed=seed, cut_maps=cut_maps)

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

    return PhaseInputs(
        forward=feed.forward,
        train=lambda epoch, done: mixed(epoch, done, feed.train(epoch, *order(epoch, done))),
        val=lambda: feed.val(val_order, params.batch_size),
        once_flops=feed.once_flops,
        images=len(train.paths),
        val_images=len(val.paths),
        class_weights=class_weights,
        val_class_weights=val_class_weights,
    )


@dataclass(frozen=True, kw_only=True)
class _Feed:
    """What becomes of images in a given order."""

    forward: Callable[[Tensor], Tensor]
    """What takes them."""

    train: Callable[[int, Sequence[int], int], Batches]
    """The number of an epoch, the training images in its order, and how many of them are a batch."""

    val: Callable[[Sequence[int], int], Batches]
    """The same of validation images, which are the same in each epoch."""

    once_flops: Mapping[str, int] = field(default_factory=dict)
    """See `PhaseInputs`."""


def _feed_cached(
    model: Classifier,
    phase: Phase,
    *,
    number: int,
    data: TrainingData,
    compute: ComputeParams,
    seed: int,
    cut_maps: CutMaps | None,
) -> _Feed:
    """Features, or maps at a cut: in each epoch one of an image's cached views, drawn at random; of val the centre."""
    device = model.head.weight.device
    if phase.views is None:
        forward: Callable[[Tensor], Tensor] = model.head
        once_flops: dict[str, int] = {}

        def cached(split: LabelledImages, views: int) -> LabelledImages:  # noqa: ARG001, as below
            return split
    else:
        assert cut_maps is not None
        cut = require_cut(model, phase, place="views")
        forward = in_precision(compiled(cut.above) if compute.compile else cut.above, compute, device)
        below_sha256 = module_sha256(cut.below)
        view_flops = count_forward_flops(cut.below, size_px=model.preprocessing.image_size_px)
        once_flops = {
            f"{below_sha256}-train-{phase.views}": len(data.train.paths) * phase.views * view_flops,
            f"{below_sha256}-val-1": len(data.val.paths) * view_flops,
        }

        def cached(split: LabelledImages, views: int) -> LabelledImages:
            return cut_maps.of(split, model, cut, views=views, below_sha256=below_sha256)

    def train_batches(epoch: int, order: Sequence[int], batch_size: int) -> Batches:
        split = cached(data.train, phase.views or 1)
        drawn = random_stream(seed, CACHED_VIEW, number, epoch).integers(split.views.shape[1], size=len(split.paths))
        return _cached_batches(split, order, batch_size, views=drawn, device=device)

    def val_batches(order: Sequence[int], batch_size: int) -> Batches:
        split, centre = cached(data.val, 1), np.zeros(len(data.val.paths), np.int64)
        return _cached_batches(split, order, batch_size, views=centre, device=device)

    return _Feed(forward=forward, train=train_batches, val=val_batches, once_flops=once_flops)


def _feed_images(model: Classifier, *, number: int, data: TrainingData, compute: ComputeParams, seed: int) -> _Feed:
    """Images, augmented anew in each epoch; of val the centre views."""

    def train_batches(epoch: int, order: Sequence[int], batch_size: int) -> Batches:
        def view(index: int) -> NDArray[np.uint8]:
            random = random_stream(seed, AUGMENTATION, number, epoch, index)
            return random_view(data.images.read_image(data.train.paths[index]), model.preprocessing, random)

        return _image_batches(model, data.train, view, order, batch_size)

    def val_batches(order: Sequence[int], batch_size: int) -> Batches:
        def view(index: int) -> NDArray[np.uint8]:
            return centre_view(data.images.read_image(data.val.paths[index]), model.preprocessing)

        return _image_batches(model, data.val, view, order, batch_size)

    forward = compiled(model) if compute.compile else model
    return _Feed(forward=in_precision(forward, compute, model.head.weight.device), train=train_batches, val=val_batches)


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


def _cached_batches(
    split: LabelledImages, order: Sequence[int], batch_size: int, *, views: NDArray[np.int64], device: torch.device
) -> Batches:
    """Features or maps of the images in `order`; `views`, shape `(N,)`, says which cached view stands for each."""
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        inputs = torch.from_numpy(split.views[rows, views[rows]]).to(device)
        if inputs.ndim == 4:  # maps, (B, C, H, W), as they would come out of the blocks below
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        yield inputs, _labels(split, rows, device)


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
