"""What all peers share: the task, the pretrained network, a clock, and the form of a result.

Imports nothing of thaw: it also runs in the environments of fastai and Lightning.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import numpy as np
import timm
import torch
from torch import nn

NETWORK = "tf_efficientnet_lite0"
WEIGHTS = "weights.pth"
"""In the task's folder: the pretrained network's tensors under timm's names, classifier included."""

IMAGE_SIZE_PX, EPOCHS, BATCH_SIZE = 96, 4, 32


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a peer is given."""

    folder: Path
    """Has weights.pth, and `images/train/Cat/1.jpg` and so on: the layout of torchvision's ImageFolder."""

    seed: int

    threads: int
    """Threads that compute; as many processes decode."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a peer prints, a line of JSON for each recipe."""

    recipe: str
    seconds: float
    """Of the training with its validation, without start-up and test."""

    cpu_seconds: float
    """Processor time of the same, that of processes that decode included."""

    test_accuracy: float


def read_task() -> Task:
    """The task that the command line gives; seeds the generators, and sets the number of threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    task = Task(**vars(parser.parse_args()))
    torch.set_num_threads(task.threads)
    random.seed(task.seed)
    np.random.seed(task.seed)
    torch.manual_seed(task.seed)
    return task


def run_recipe(recipe: str, *, train: Callable[[], object], test: Callable[[], float]) -> None:
    """Time `train`, then let `test` give the accuracy; print the result."""
    start_s, start_cpu_s = time.perf_counter(), _cpu_seconds()
    train()
    seconds, cpu_seconds = time.perf_counter() - start_s, _cpu_seconds() - start_cpu_s
    result = Result(recipe=recipe, seconds=seconds, cpu_seconds=cpu_seconds, test_accuracy=test())
    print(json.dumps(asdict(result)), flush=True)


def build_network(folder: Path) -> nn.Module:
    """The pretrained network with a new classifier of two classes, as timm builds it."""
    network: nn.Module = timm.create_model(NETWORK, pretrained=True, num_classes=2, **pretrained_from(folder))
    return network


def pretrained_from(folder: Path) -> dict[str, dict[str, str]]:
    """What makes timm's `pretrained=True` read the task's weights, and no network."""
    return {"pretrained_cfg_overlay": {"file": os.fspath(folder / WEIGHTS)}}


def _cpu_seconds() -> float:
    # Of children, those count that have ended: workers of a DataLoader end with each epoch.
    usages = (getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
