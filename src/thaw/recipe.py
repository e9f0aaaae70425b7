"""How a phase learns: its loss, its optimiser, the course of its learning rate, and what BatchNorm normalises with.

docs/recipes.md says what each knob does, and what it did on real photos.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thaw.model import Classifier, layer_groups, set_trainable
from thaw.params import Phase, TrainingParams


def training_loss(logits: Tensor, targets: Tensor, params: TrainingParams) -> Tensor:
    """Mean cross-entropy with label smoothing (Szegedy et al., CVPR 2016); the targets are as in `feed.Batches`."""
    return nn.functional.cross_entropy(logits, targets, label_smoothing=params.label_smoothing)


def count_hits(logits: Tensor, targets: Tensor) -> int:
    """For how many pictures the highest logit is the label's or, under mixup, the class's with the larger share."""
    labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
    return int((logits.argmax(dim=1) == labels).sum())


def build_optimizer(model: Classifier, phase: Phase, params: TrainingParams) -> torch.optim.Optimizer:
    """The optimiser of what the phase trains, layer group by layer group; no decay of biases and norms.

    The head learns at the phase's rate, each block of the backbone at `block_lr_decay` times the rate of what follows
    it (discriminative learning rates; Howard and Ruder, ACL 2018). A block without parameters counts too. The first
    group of the optimiser is the head's weight.

    AdamW (Loshchilov and Hutter, ICLR 2019), or SGD with momentum (Sutskever et al., ICML 2013). Weight decay is
    decoupled from the gradient in the first, and an L2 penalty in the second, as everywhere in torch.
    """
    trained = dict(set_trainable(model, last_blocks=phase.last_blocks))
    groups: list[dict[str, Any]] = []
    for depth, names in enumerate(layer_groups(model)):
        lr = phase.lr * params.block_lr_decay**depth
        parameters = [trained[name] for name in names if name in trained]
        groups.append({"params": [p for p in parameters if p.ndim > 1], "lr": lr, "weight_decay": params.weight_decay})
        groups.append({"params": [p for p in parameters if p.ndim <= 1], "lr": lr, "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
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
