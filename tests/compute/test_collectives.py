"""Two real processes over loopback: the same features, the same history within rounding, files written once, kills.

Run with `pytest tests/compute/test_collectives.py`.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from thaw import paths
from thaw.compute.collectives import process_group, require_same_inputs
from thaw.errors import ConfigError, DataError
from thaw.paths import Cell

CELLS = (Cell("frozen", 0), Cell("solved", 0), Cell("tuned", 0), Cell("cached", 0))

PROGRAM = """
import os
import signal
import sys
import torch
from conftest import TINY_BACKBONE, TINY_EMBED, TINY_STORAGE, TINY_TRAINING
from thaw import paths
from thaw.compute.collectives import process_group
from thaw.errors import exit_code
from thaw.evaluation.evaluate import evaluate_cell
from thaw.params import Phase, SolvedPhase
from thaw.paths import Cell
from thaw.training import checkpoint, embed, infer_views
from thaw.training.train import train_cell
from thaw.utils.ranks import relaunch

HEAD, ALL = Phase(train="head", epochs=5, lr=0.01), Phase(train="all", epochs=3, lr=0.001)
# 12 images to train on: the last of the batches of 5 has two, and the last of 11 has one for two processes.
CASES = {
    "frozen": ((HEAD,), 5), "solved": ((SolvedPhase(),), 5), "tuned": ((HEAD, ALL), 11),
    "cached": ((HEAD, Phase(train="last:1", epochs=2, lr=0.001, views=2)), 5),
}

# "1 embed 2 SIGTERM" stops the process of rank 1 at its second batch, "0 train 9 SIGKILL" rank 0 at its ninth step.
rank, place, moment, name = os.environ.get("STOP", "0 nowhere 0 none").split()

def stopping(function):
    times = 0

    def counted(*arguments):
        nonlocal times
        times += 1
        made = function(*arguments)
        if times == int(moment) and os.environ["RANK"] == rank:
            os.kill(os.getpid(), signal.Signals[name])
        return made

    return counted

if place == "embed":
    infer_views.normalise = stopping(infer_views.normalise)
if place == "train":
    torch.optim.lr_scheduler.LRScheduler.step = stopping(torch.optim.lr_scheduler.LRScheduler.step)
    # Each step is worth a checkpoint.
    checkpoint.SAVE_INTERVAL_S = checkpoint.WORK_PER_COST = 0

def main():
    relaunch()
    with process_group():
        run_stages()

def run_stages():
    embed.embed_images(
        backbone=TINY_BACKBONE, embed=TINY_EMBED.model_copy(update={"batch_size": 5}), images=paths.IMAGES,
        features=paths.FEATURES, weights=paths.BACKBONE, cost=paths.EMBED_COST, checkpoints=paths.EMBED_CHECKPOINTS,
    )
    for variant in sys.argv[1:]:
        phases, batch_size = CASES[variant]
        training = TINY_TRAINING.model_copy(update={"batch_size": batch_size})
        train_cell(
            Cell(variant, 0), candidates=[phases], backbone=TINY_BACKBONE, storage=TINY_STORAGE, val="fixed",
            training=training,
        )
        evaluate_cell(Cell(variant, 0), batch_size=2)

sys.exit(exit_code(main))
"""


TWO_PROCESSES = "torchrun --standalone --nproc-per-node=2"


def run_program(
    project: Path, *variants: str, launcher: str | None, stop: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run PROGRAM in `project`; one thread a process, since torchrun would choose that too."""
    (project / "program.py").write_text(PROGRAM, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    if launcher is not None:
        environment["THAW_LAUNCHER"] = launcher
    if stop is not None:
        environment["STOP"] = stop
    command = [sys.executable, "program.py", *variants]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def history(cell: Cell) -> list[dict[str, str]]:
    with cell.history.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_two_processes_do_what_one_does(tiny_project: Path) -> None:
    done = run_program(tiny_project, *(cell.variant for cell in CELLS), launcher=None)
    assert done.returncode == 0, done.stderr
    alone_features = paths.FEATURES.read_bytes()
    alone = {cell: (history(cell), json.loads(cell.metrics.read_text())) for cell in CELLS}
    shutil.rmtree("data/models")
    done = run_program(tiny_project, *(cell.variant for cell in CELLS), launcher=TWO_PROCESSES)
    assert done.returncode == 0, done.stderr
    assert json.loads(paths.EMBED_COST.read_text())["processes"] == 2

    # Whole batches go round, so each is computed as by one process alone.
    assert paths.FEATURES.read_bytes() == alone_features
    for cell, (rows, metrics) in alone.items():
        together = history(cell)
        assert len(together) == len(rows)
        for ours, theirs in zip(together, rows, strict=True):
            assert [ours[key] for key in ("phase", "epoch", "lr", "best")] == [
                theirs[key] for key in ("phase", "epoch", "lr", "best")
            ]
            for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
                assert float(ours[key] or "nan") == pytest.approx(float(theirs[key] or "nan"), rel=1e-5, nan_ok=True), (
                    cell,
                    ours["epoch"],
                    key,
                )
        ours_metrics = json.loads(cell.metrics.read_text())
        assert ours_metrics["test"]["log_loss"] == pytest.approx(metrics["test"]["log_loss"], rel=1e-4)
    # The first process alone talks.
    assert done.stderr.count("frozen-0, phase 1 of 1") == 1
    assert not list(Path(".thaw/checkpoints").glob("*.pt"))


def test_of_two_processes_one_is_stopped_again_and_again_and_they_end_with_the_same_bytes(tiny_project: Path) -> None:
    done = run_program(tiny_project, "tuned", launcher=TWO_PROCESSES)
    assert done.returncode == 0, done.stderr
    cell = Cell("tuned", 0)
    outputs = [paths.FEATURES, *sorted(cell.model.iterdir()), cell.history, cell.metrics]
    undisturbed = {path: path.read_bytes() for path in outputs}
    shutil.rmtree(cell.model)
    paths.FEATURES.unlink()
    # The schedule steps 1 + 10 times in the first phase and 1 + 6 times in the second.
    stops = {
        "1 embed 2 SIGTERM": "error: embed: stopped by SIGTERM after 10 of 10 images; run the same command to resume",
        "1 train 5 SIGKILL": "error: another process of this run has ended",
        "0 train 11 SIGTERM": "error: tuned-0: stopped by a signal to another process in phase 2, after batch",
    }
    for stop, sentence in stops.items():
        done = run_program(tiny_project, "tuned", launcher=TWO_PROCESSES, stop=stop)
        assert done.returncode != 0
        assert sentence in done.stderr
        assert "RuntimeError" not in done.stderr
        assert not cell.model.exists()
    done = run_program(tiny_project, "tuned", launcher=TWO_PROCESSES)
    assert done.returncode == 0, done.stderr
    assert "tuned-0, phase 2 of 2 (all), resumed" in done.stderr
    assert {path: path.read_bytes() for path in outputs} == undisturbed
    assert not list(Path(".thaw").rglob("*.pt"))


def test_an_error_under_torchrun_is_said_and_fails(tiny_project: Path) -> None:
    paths.SPLITS.unlink()
    done = run_program(tiny_project, "frozen", launcher=TWO_PROCESSES)
    assert done.returncode != 0
    assert "error: data/splits.csv does not exist: run `dvc repro`, which runs the stage split" in done.stderr


def test_other_inputs_than_the_first_process_has_are_refused(
    as_process: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_same_inputs("mine")
    as_process(1, 2)
    monkeypatch.setattr("thaw.compute.collectives.broadcast", lambda _mine: "the first's")
    require_same_inputs("the first's")
    with pytest.raises(DataError, match="the inputs of process 1 are not those of the first process; run `dvc pull`"):
        require_same_inputs("mine")


def test_more_processes_than_gpus_is_one_sentence(
    as_process: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_process(1, 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with (
        pytest.raises(ConfigError, match="more processes on this machine than its 1 GPUs; start 1, or"),
        process_group(),
    ):
        pass
