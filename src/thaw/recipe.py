"""How a phase learns: its optimiser, the course of its learning rate, and what BatchNorm normalises with."""

import math
from collections.abc import Callable

import torch
from torch import nn

from thaw.model import Classifier, set_trainable
from thaw.params import Phase, TrainingParams

WARM_UP_SHARE = 0.1
"""The share of a phase's steps in which the learning rate climbs; then it falls along half a cosine."""


def build_optimizer(model: Classifier, phase: Phase, params: TrainingParams) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, ICLR 2019) over what the phase trains; no decay of biases and norms."""
    trained = set_trainable(model, phase.train)
    return torch.optim.AdamW(
        [
            {"params": [p for _, p in trained if p.ndim > 1], "weight_decay": params.weight_decay},
            {"params": [p for _, p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=phase.lr,
    )


def warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at each of a phase's steps."""
    warm_up = max(1, round(steps * WARM_UP_SHARE))

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
