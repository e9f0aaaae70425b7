"""`thaw repro` on a pipeline of toy stages: side by side, in order, stopped, killed, and the same lock as `dvc repro`.

Run with `pytest tests/pipeline/test_repro.py`.
"""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from conftest import run_thaw, wait_until
from pipeline import toy_project
from pipeline.toy_project import CELLS, environment, make_toy, read_params, set_params

finished = toy_project.finished


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return make_toy(tmp_path / "toy")


THAW = [sys.executable, "-c", "from thaw.cli import run; run()", "repro"]


def repro(folder: Path, *arguments: str, **own: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*THAW, *arguments], cwd=folder, env=environment(**own), capture_output=True, text=True, check=False
    )


@contextmanager
def started(folder: Path, *arguments: str, **own: str) -> Iterator["subprocess.Popen[str]"]:
    """`thaw repro` in the background."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*THAW, *arguments], cwd=folder, env=environment(**own), stdout=pipe, stderr=pipe, text=True
    ) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def notes(folder: Path, pattern: str) -> list[Path]:
    return list((folder / ".thaw/notes").glob(pattern))


def lock(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return loaded


def running_stages(folder: Path) -> list[int]:
    """The stages that have begun and still run."""
    return [pid for note in notes(folder, "*.began") if psutil.pid_exists(pid := int(note.read_text()))]


def test_cells_run_side_by_side_in_order_and_the_lock_is_that_of_dvc_repro(toy: Path, finished: Path) -> None:
    # Each training waits until all four have begun.
    done = repro(toy, "--jobs", "4", TOY_TOGETHER="4")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "up to date: 10 stages ran, 0 from the cache"
    spans = {path.stem: json.loads(path.read_text()) for path in notes(toy, "*.json")}
    assert len(spans) == 10
    for cell in CELLS:
        assert spans["prepare"][1] <= spans[f"train@{cell}"][0]
        assert spans[f"train@{cell}"][1] <= spans[f"evaluate@{cell}"][0]
        assert spans[f"evaluate@{cell}"][1] <= spans["report"][0]
    assert lock(toy) == lock(finished)
    again = repro(toy)
    assert again.returncode == 0
    assert again.stderr == "up to date: 0 stages ran, 0 from the cache\n"


def test_one_job_is_one_stage_at_a_time(toy: Path) -> None:
    assert repro(toy, "--jobs", "1", "train").returncode == 0
    spans = sorted(json.loads(path.read_text()) for path in notes(toy, "*.json"))
    assert len(spans) == 5
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_what_changed_runs_and_what_was_once_done_comes_from_the_cache(finished: Path) -> None:
    before = read_params(finished)
    changed = before | {"variants": before["variants"] | {"tuned": [{"train": "all", "epochs": 1, "lr": 0.1}]}}
    set_params(finished, changed)
    # The models are the same bytes, so nothing behind them is stale.
    assert repro(finished).stderr.splitlines()[-1] == "up to date: 2 stages ran, 0 from the cache"
    set_params(finished, before)
    assert repro(finished).stderr.splitlines()[-1] == "up to date: 0 stages ran, 2 from the cache"


def test_what_is_edited_meanwhile_runs_again_and_counts(toy: Path) -> None:
    with started(toy, "--jobs", "4", TOY_TOGETHER="5") as driver:
        wait_until(lambda: len(notes(toy, "train*.began")) == 4)
        params = read_params(toy)
        set_params(toy, params | {"sample": params["sample"] | {"seed": params["sample"]["seed"] + 1}})
        (toy / ".thaw/notes/train.began").touch()  # the fifth, for which the four wait
        _, said = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    assert said.splitlines()[-1] == "up to date: 11 stages ran, 0 from the cache"


def test_a_cell_that_fails_stops_no_other_and_the_end_says_where_its_log_is(toy: Path) -> None:
    done = repro(toy, "--jobs", "2", TOY_FAILS="train@frozen-1")
    assert done.returncode == 1
    assert {path.stem for path in notes(toy, "evaluate*.json")} == {
        f"evaluate@{cell}" for cell in CELLS if cell != "frozen-1"
    }
    assert "error: this is how it failed" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: failed: train@frozen-1 (see .thaw/logs/train@frozen-1.log); "
        "not run for that: evaluate@frozen-1, report; mend that, and run the same command to go on"
    )
    assert "this is how it failed" in (toy / ".thaw/logs/train@frozen-1.log").read_text()
    assert repro(toy).stderr.splitlines()[-1] == "up to date: 3 stages ran, 0 from the cache"


def test_of_many_stages_that_need_one_that_failed_the_number_is_said(toy: Path) -> None:
    done = repro(toy, TOY_FAILS="prepare")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: failed: prepare (see .thaw/logs/prepare.log); not run for that: 9 stages; "
        "mend that, and run the same command to go on"
    )


@pytest.fixture
def heeded_interrupt() -> Iterator[None]:
    """What is started does not ignore SIGINT, as all does that a script has put in the background."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("heeded_interrupt")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_all_save_and_end(toy: Path, number: signal.Signals, code: int) -> None:
    with started(toy, "--jobs", "4", TOY_BLOCKS="train") as driver:
        wait_until(lambda: len(notes(toy, "train*.began")) == 4)
        driver.send_signal(number)
        _, said = driver.communicate(timeout=60)
    assert driver.returncode == code, said
    assert len(notes(toy, "train*.saved")) == 4
    assert running_stages(toy) == []
    assert said.splitlines()[-1].startswith(f"error: stopped by {number.name} (train@frozen-0, ")
    assert repro(toy, "train").stderr.splitlines()[-1] == "up to date: 4 stages ran, 0 from the cache"


def test_a_driver_that_is_killed_leaves_no_stage_behind(toy: Path) -> None:
    with started(toy, "--jobs", "2", TOY_BLOCKS="train") as driver:
        wait_until(lambda: len(notes(toy, "train*.began")) == 2)
        driver.kill()
        driver.wait()
    # At once: it waits for what still saves.
    done = repro(toy, "train")
    assert done.returncode == 0, done.stderr
    assert len(notes(toy, "train*.saved")) == 2
    assert done.stderr.splitlines()[-1] == "up to date: 4 stages ran, 0 from the cache"
    assert len(lock(toy)) == 5


def test_a_dvc_that_is_killed_takes_its_stage_with_it(toy: Path) -> None:
    with started(toy, "--jobs", "1", TOY_BLOCKS="train@frozen-0") as driver:
        wait_until(lambda: len(notes(toy, "train*.began")) == 1)
        (dvc,) = psutil.Process(driver.pid).children()
        dvc.kill()
        _, said = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert "error: failed: train@frozen-0 (" in said
    assert len(notes(toy, "train@frozen-0.saved")) == 1
    assert running_stages(toy) == []
    assert repro(toy).stderr.splitlines()[-1] == "up to date: 3 stages ran, 0 from the cache"


def test_a_note_of_dvcs_that_a_kill_left_half_written_stops_nothing(toy: Path) -> None:
    (toy / ".dvc/tmp").mkdir()
    (toy / ".dvc/tmp/rwlock").write_text('{"data/prep')
    done = repro(toy, "prepare")
    assert done.returncode == 0, done.stderr


def test_a_second_driver_says_that_the_first_is_running(toy: Path) -> None:
    with started(toy, TOY_BLOCKS="prepare") as driver:
        wait_until(lambda: len(notes(toy, "prepare.began")) == 1)
        second = repro(toy)
        driver.terminate()
        driver.communicate(timeout=60)
    assert second.returncode == 1
    assert second.stderr == (
        f"error: thaw repro is running here already (process {driver.pid}); wait until it has ended, or stop it: "
        f"kill {driver.pid}\n"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": 0}, "seeds: expected a list, got 0; write whole numbers in brackets: seeds: [0, 1, 2]"),
        ({"seeds": "many"}, "seeds: expected a list, got 'many'; write whole numbers in brackets: seeds: [0, 1, 2]"),
        (
            {"variants": ["frozen"]},
            "variants: expected keys with values, got ['frozen']; write a name for each, and its phases below it: "
            "variants: {frozen: [{train: head}]}",
        ),
    ],
)
def test_a_wrong_parameter_is_named_before_dvc_is_asked(toy: Path, change: dict[str, Any], sentence: str) -> None:
    set_params(toy, read_params(toy) | change)
    done = run_thaw("repro", cwd=toy)
    assert done.code == 1
    assert done.stderr == f"error: params.yaml: {sentence}\n"


def test_a_pipeline_that_dvc_cannot_read_and_jobs_that_cannot_be_are_one_sentence(toy: Path) -> None:
    done = repro(toy, "--jobs", "0")
    assert (done.returncode, done.stderr) == (1, "error: --jobs: expected a number of at least 1, got 0\n")
    (toy / "dvc.yaml").write_text("stages: 3\n")
    done = repro(toy)
    assert done.returncode == 1
    assert done.stderr.startswith("error: DVC cannot read the pipeline: ")
    assert done.stderr.count("\n") == 1


def test_targets_run_with_what_lies_before_them_and_no_others(toy: Path) -> None:
    done = repro(toy, "evaluate@frozen-0", "train@tuned-*")
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in notes(toy, "*.json")} == {
        "prepare", "train@frozen-0", "evaluate@frozen-0", "train@tuned-0", "train@tuned-1",
    }  # fmt: skip
    # All cells of a stage, by its name alone.
    assert repro(toy, "evaluate").stderr.splitlines()[-1] == "up to date: 4 stages ran, 0 from the cache"


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("trian", "did you mean train? "),
        ("evaluate@frzen-1", "did you mean evaluate@frozen-1? "),
        ("Report", "did you mean report? "),
        ("x", ""),
    ],
)
def test_a_stage_that_there_is_not_is_told_from_the_nearest(toy: Path, target: str, meant: str) -> None:
    done = repro(toy, target)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: there is no stage '{target}'; {meant}`dvc stage list --name-only` lists those of params.yaml\n"
    )
