"""How a phase learns: its loss, its optimiser, what it keeps as it is, and the course of its learning rate.

docs/recipes.md says what each knob does, and what it did on real photos.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thaw.network.classifier import Classifier, layer_groups, set_trainable
from thaw.params import AdamWParams, Phase, SGDParams, TrainingParams


def weigh_classes(labels: NDArray[np.int64], *, classes: int, params: TrainingParams) -> NDArray[np.float64] | None:
    """How much an image of each class counts, shape (C,); None if all count alike.

    `balanced`, as scikit-learn has it (King and Zeng, Political Analysis 2001): N / (C n) for a class that has n of N
    images, so that all classes have the same share of the sum, and the mean over the images is 1. A class without
    images has no say.

    Args:
        labels: shape (N,), in [0, C).
        classes: C.
        params: what the phases share.
    """
    if params.class_weights == "none":
        return None
    images = np.bincount(labels, minlength=classes)
    present = images > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(images, 1)), 0.0)


def cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy with label smoothing (Szegedy et al., CVPR 2016).

    Weights multiply the loss of an image, and the mean is by the number of images, not by the sum of the weights as in
    torch: so the gradient of a small batch is an unbiased one of the whole split's.

    Args:
        logits: shape (B, C).
        targets: as in `inputs.Batches`; a blend's weight is that of its labels, by their shares.
        class_weights: shape (C,), from `weigh_classes`.
        label_smoothing: the fraction of the target that is spread over all classes.
    """
    if class_weights is None:
        return nn.functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    losses = nn.functional.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")  # (B,)
    weights = class_weights[targets] if targets.ndim == 1 else targets @ class_weights  # (B,)
    return (losses * weights).mean()


def count_correct(logits: Tensor, targets: Tensor) -> int:
    """For how many images the highest logit is the label's or, under mixup, the class's with the larger share."""
    labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
    return int((logits.argmax(dim=1) == labels).sum())


def build_optimizer(model: Classifier, phase: Phase, params: TrainingParams) -> torch.optim.Optimizer:
    """The optimiser of what the phase trains, layer group by layer group; no decay of biases and norms.

    The head learns at the phase's `head_lr`, since a fresh one needs a hundred times more than pretrained weights; if
    there is none, at `lr`. The last block of the backbone learns at `lr` times `layer_decay`, each block before it at
    `layer_decay` times the rate of what follows it (discriminative learning rates; Howard and Ruder, ACL 2018). A block
    without parameters counts too. The first group of the optimiser is the head's weight.

    AdamW (Loshchilov and Hutter, ICLR 2019), or SGD with momentum (Sutskever et al., ICML 2013). Weight decay is
    decoupled from the gradient in the first, and an L2 penalty in the second, as everywhere in torch.
    """
    trained = dict(set_trainable(model, last_blocks=phase.last_blocks))
    groups: list[dict[str, Any]] = []
    for depth, names in enumerate(layer_groups(model)):
        lr = phase.lr * params.layer_decay**depth if depth or phase.head_lr is None else phase.head_lr
        parameters = [trained[name] for name in names if name in trained]
        decay = params.optimizer.weight_decay
        groups.append({"params": [p for p in parameters if p.ndim > 1], "lr": lr, "weight_decay": decay})
        groups.append({"params": [p for p in parameters if p.ndim <= 1], "lr": lr, "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    match params.optimizer:
        case AdamWParams():
            return torch.optim.AdamW(groups, lr=phase.lr)
        case SGDParams(momentum=momentum, nesterov=nesterov):
            return torch.optim.SGD(groups, lr=phase.lr, momentum=momentum, nesterov=nesterov)


def set_mode(model: Classifier, phase: Phase, params: TrainingParams) -> None:
    """Training mode for what a phase trains of the backbone, with BatchNorm's statistics as `params.batch_norm` says.

    What is frozen stays in eval mode: its BatchNorm keeps its statistics and its dropout is off, whatever
    `params.batch_norm` says. Call it after `build_optimizer`, which decides what is trained.
    """
    model.train(phase.train != "head")
    for module in model.modules():
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        parameters = list(module.parameters())
        frozen = bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
        # A norm without parameters is in no block, so only an `all` phase is sure to train it.
        loose = is_norm and not parameters and phase.train != "all"
        if frozen or loose or (is_norm and params.batch_norm == "frozen_stats"):
            module.eval()


def count_steps(phase: Phase, *, images: int, params: TrainingParams) -> int:
    """How often the optimiser steps in a phase whose epochs have so many images."""
    return phase.epochs * math.ceil(images / (params.batch_size * params.grad_accum_steps))


def images_in_step(batch: int, *, images: int, params: TrainingParams) -> int:
    """How many of an epoch's `images` share the step of the optimiser that batch number `batch`, from 0, is part of.

    A batch's mean loss counts in its step by its own share of these, so that steps over several batches, also over a
    last incomplete group of them, have the gradient of one large batch.
    """
    step_size = params.batch_size * params.grad_accum_steps
    first = batch // params.grad_accum_steps * step_size
    return min(step_size, images - first)


def warmup_cosine(steps: int, *, warmup_ratio: float) -> Callable[[int], float]:
    """The factor of the learning rate at each of a phase's steps: a linear climb, then half a cosine.

    The climb is Goyal et al.'s (2017), the cosine Loshchilov and Hutter's (ICLR 2017), without restarts.
    """
    warm_up = max(1, round(steps * warmup_ratio))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return factor
