"""How a phase learns: its loss, its optimiser, the course of its learning rate, and what BatchNorm normalises with.

docs/recipes.md says what each knob does, and what it did on real photos.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from thaw.model import Classifier, set_trainable
from thaw.params import Phase, TrainingParams


def training_loss(logits: Tensor, targets: Tensor, params: TrainingParams) -> Tensor:
    """Mean cross-entropy with label smoothing (Szegedy et al., CVPR 2016); the targets are as in `feed.Batches`."""
    return nn.functional.cross_entropy(logits, targets, label_smoothing=params.label_smoothing)


def count_hits(logits: Tensor, targets: Tensor) -> int:
    """For how many pictures the highest logit is the label's or, under mixup, the class's with the larger share."""
    labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
    return int((logits.argmax(dim=1) == labels).sum())


def build_optimizer(model: Classifier, phase: Phase, params: TrainingParams) -> torch.optim.Optimizer:
    """The optimiser of what the phase trains; no decay of biases and norms.

    AdamW (Loshchilov and Hutter, ICLR 2019), or SGD with momentum (Sutskever et al., ICML 2013). Weight decay is
    decoupled from the gradient in the first, and an L2 penalty in the second, as everywhere in torch.
    """
    trained = set_trainable(model, phase.train)
    groups = [
        {"params": [p for _, p in trained if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for _, p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if params.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=params.momentum, nesterov=params.nesterov)
    return torch.optim.AdamW(groups, lr=phase.lr)


def count_steps(phase: Phase, *, pictures: int, params: TrainingParams) -> int:
    """How often the optimiser steps in a phase whose epochs have so many pictures."""
    return phase.epochs * math.ceil(pictures / (params.batch_size * params.accumulate_batches))


def pictures_in_step(batch: int, *, pictures: int, params: TrainingParams) -> int:
    """How many of an epoch's `pictures` share the step of the optimiser that batch number `batch`, from 0, is part of.

    A batch's mean loss counts in its step by its own share of these, so that steps over several batches, also over a
    last incomplete group of them, have the gradient of one large batch.
    """
    step_size = params.batch_size * params.accumulate_batches
    first = batch // params.accumulate_batches * step_size
    return min(step_size, pictures - first)


def warm_up_and_cosine(steps: int, *, warm_up_share: float) -> Callable[[int], float]:
    """The factor of the learning rate at each of a phase's steps: a linear climb, then half a cosine.

    The climb is Goyal et al.'s (2017), the cosine Loshchilov and Hutter's (ICLR 2017), without restarts.
    """
    warm_up = max(1, round(steps * warm_up_share))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    return factor


def set_mode(model: Classifier, phase: Phase, params: TrainingParams) -> None:
    """Training mode for an `all` phase, with BatchNorm's statistics as `params.batch_norm` says."""
    model.train(phase.train == "all")
    if params.batch_norm == "frozen_stats":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
