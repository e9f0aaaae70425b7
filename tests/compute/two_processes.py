"""The stages of a tiny project by two processes, of which one can be stopped at a chosen moment.

torch takes seconds to import: for torchrun, and for each process that it starts. `run_forked` saves that. A server that
has imported all once forks torchrun's own agent, which forks the two.
"""

import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from conftest import ROOT, TINY_BACKBONE, TINY_EMBED, TINY_STORAGE, TINY_TRAINING
from thaw import paths
from thaw.compute.collectives import process_group
from thaw.data.tensors import normalise
from thaw.errors import exit_code
from thaw.evaluation.evaluate import evaluate_cell
from thaw.params import AnyPhase, Phase, SolvedPhase
from thaw.paths import Cell
from thaw.training import checkpoint, embed
from thaw.training.train import train_cell

HEAD, ALL = Phase(train="head", epochs=5, lr=0.01), Phase(train="all", epochs=3, lr=0.001)
LAST = Phase(train="last:1", epochs=2, lr=0.001, views=2)
CASES: dict[str, tuple[tuple[AnyPhase, ...], int]] = {
    "frozen": ((HEAD,), 5),
    "solved": ((SolvedPhase(),), 5),
    "tuned": ((HEAD, ALL), 11),
    "cached": ((HEAD, LAST), 5),
}
"""Phases and batch size. Of 12 training images, the last of the batches of 5 has two, and that of 11 one for both."""
SEARCH_PATH = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"
FORKS = multiprocessing.get_context("forkserver")

Made = TypeVar("Made")


def run_stages(*variants: str) -> None:
    """Embed, train and evaluate in the current folder, as one of as many processes as torchrun has started."""
    with process_group():
        embed.embed_images(
            backbone=TINY_BACKBONE,
            embed=TINY_EMBED.model_copy(update={"batch_size": 5}),
            images=paths.IMAGES,
            features=paths.FEATURES,
            weights=paths.BACKBONE,
            cost=paths.EMBED_COST,
            checkpoints=paths.EMBED_CHECKPOINTS,
        )
        for variant in variants:
            phases, batch_size = CASES[variant]
            train_cell(
                Cell(variant, 0),
                candidates=[phases],
                backbone=TINY_BACKBONE,
                storage=TINY_STORAGE,
                val="fixed",
                training=TINY_TRAINING.model_copy(update={"batch_size": batch_size}),
            )
            evaluate_cell(Cell(variant, 0), batch_size=2)


def run_forked(folder: Path, *variants: str, stop: str = "") -> tuple[int | None, str]:
    """Run the stages in `folder` by two processes; the exit code, and all that they said.

    `stop` is a rank, a place, a moment and a signal: "1 embed 2 SIGTERM" stops the process of rank 1 at its second
    batch, "0 train 9 SIGKILL" that of rank 0 at its ninth step.
    """
    said = folder / "said.txt"
    FORKS.set_forkserver_preload([__name__])
    process = FORKS.Process(target=_launch, args=(folder, variants, stop, said))
    with pytest.MonkeyPatch.context() as patch:
        # The first process starts the server, which knows no other search path.
        patch.setenv("PYTHONPATH", SEARCH_PATH)
        process.start()
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8")


def _launch(folder: Path, variants: tuple[str, ...], stop: str, said: Path) -> None:
    os.chdir(folder)
    with said.open("wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    # As `torchrun --standalone --nproc-per-node=2` does.
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    elastic_launch(config, _work)(variants, stop)


def _work(variants: tuple[str, ...], stop: str) -> None:
    if stop:
        _stop(*stop.split())
    code = exit_code(partial(run_stages, *variants))
    if code:
        sys.exit(code)


def _stop(rank: str, place: str, moment: str, name: str) -> None:
    """Let what marks the moments of a place send the signal to this process, if its rank is `rank`."""

    def stopping(function: Callable[..., Made]) -> Callable[..., Made]:
        times = 0

        def counted(*arguments: object) -> Made:
            nonlocal times
            times += 1
            made = function(*arguments)
            if times == int(moment) and os.environ["RANK"] == rank:
                os.kill(os.getpid(), signal.Signals[name])
            return made

        return counted

    patch = pytest.MonkeyPatch()
    if place == "embed":
        patch.setattr("thaw.training.infer_views.normalise", stopping(normalise))
    else:
        scheduler = torch.optim.lr_scheduler.LRScheduler
        patch.setattr(scheduler, "step", stopping(scheduler.step))
        # Each step is worth a checkpoint.
        patch.setattr(checkpoint, "SAVE_INTERVAL_S", 0)
        patch.setattr(checkpoint, "WORK_PER_COST", 0)
