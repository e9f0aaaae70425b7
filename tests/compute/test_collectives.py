"""Two real processes over loopback: the same features, the same history within rounding, files written once, kills.

Run with `pytest tests/compute/test_collectives.py`.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compute.two_processes import CASES, SEARCH_PATH, run_forked, run_stages
from conftest import make_tiny_project
from thaw import paths
from thaw.compute.collectives import process_group, require_same_inputs
from thaw.errors import ConfigError, DataError
from thaw.paths import Cell

CELLS = [Cell(variant, 0) for variant in CASES]
# As the scripts of stages do, it starts itself again before torch is imported.
PROGRAM = """
import sys
from thaw.errors import exit_code
from thaw.utils.ranks import relaunch

def main():
    relaunch()
    from compute.two_processes import run_stages
    run_stages(*sys.argv[1:])

sys.exit(exit_code(main))
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which two processes under torchrun have done all; `said.txt` is what they said."""
    project = make_tiny_project(tmp_path_factory.mktemp("together"))
    (project / "program.py").write_text(PROGRAM, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": SEARCH_PATH,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",  # as torchrun would choose
        "THAW_LAUNCHER": "torchrun --standalone --nproc-per-node=2",
    }
    command = [sys.executable, "program.py", *CASES]
    done = subprocess.run(command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (project / "said.txt").write_text(done.stderr, encoding="utf-8")
    return project


def history(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("tiny_project")
def test_two_processes_do_what_one_does(together: Path) -> None:
    run_stages(*CASES)
    assert json.loads((together / paths.EMBED_COST).read_text())["processes"] == 2
    # Whole batches go round, so each is computed as by one process alone.
    assert (together / paths.FEATURES).read_bytes() == paths.FEATURES.read_bytes()
    for cell in CELLS:
        for ours, theirs in zip(history(together / cell.history), history(cell.history), strict=True):
            assert [ours[key] for key in ("phase", "epoch", "lr", "best")] == [
                theirs[key] for key in ("phase", "epoch", "lr", "best")
            ]
            for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
                assert float(ours[key] or "nan") == pytest.approx(float(theirs[key] or "nan"), rel=1e-5, nan_ok=True), (
                    cell,
                    ours["epoch"],
                    key,
                )
        ours_metrics, metrics = (json.loads((root / cell.metrics).read_text()) for root in (together, Path()))
        assert ours_metrics["test"]["log_loss"] == pytest.approx(metrics["test"]["log_loss"], rel=1e-4)
    # The first process alone talks.
    assert (together / "said.txt").read_text(encoding="utf-8").count("frozen-0, phase 1 of 1") == 1
    assert not list((together / ".thaw/checkpoints").glob("*.pt"))


def test_of_two_processes_one_is_stopped_again_and_again_and_they_end_with_the_same_bytes(
    together: Path, tiny_project: Path
) -> None:
    cell = Cell("tuned", 0)
    # The schedule steps 1 + 10 times in the first phase and 1 + 6 times in the second.
    stops = {
        "1 embed 2 SIGTERM": "error: embed: stopped by SIGTERM after 10 of 10 images; run the same command to resume",
        "1 train 5 SIGKILL": "error: another process of this run has ended",
        "0 train 11 SIGTERM": "error: tuned-0: stopped by a signal to another process in phase 2, after batch",
    }
    for stop, sentence in stops.items():
        code, said = run_forked(tiny_project, "tuned", stop=stop)
        assert code != 0
        assert sentence in said
        assert "RuntimeError" not in said
        assert not cell.model.exists()
    code, said = run_forked(tiny_project, "tuned")
    assert code == 0, said
    assert "tuned-0, phase 2 of 2 (all), resumed" in said
    model = [cell.model / file.name for file in (together / cell.model).iterdir()]
    for path in (paths.FEATURES, *model, cell.history, cell.metrics):
        assert path.read_bytes() == (together / path).read_bytes(), path
    assert not list(Path(".thaw").rglob("*.pt"))


def test_an_error_of_both_processes_is_said_and_fails(tiny_project: Path) -> None:
    paths.SPLITS.unlink()
    code, said = run_forked(tiny_project, "frozen")
    assert code != 0
    assert "error: data/splits.csv does not exist: run `dvc repro`, which runs the stage split" in said


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
