"""A training is shown while it happens, and ends as the run that `thaw sync` makes of its files.

Run with: pytest tests/tracking/test_live.py
"""

import json
from pathlib import Path

import pytest

from conftest import embed_tiny
from thaw.paths import Cell
from thaw.tracking.live import LiveRuns
from thaw.tracking.saved_view import TAG
from thaw.tracking.store import connect, open_experiment
from thaw.tracking.sync import show_cell
from thaw.training.history_csv import Epoch
from thaw.training.live_jsonl import LiveReader, LiveWriter
from thaw.utils.dvc_lock import read_dvc_lock
from tracking.tracked_project import CELL, runs_of, shown, silent, train, write_lock, write_params


def epoch(number: int, *, phase: int = 0) -> Epoch:
    return Epoch(
        phase=phase,
        train="all",
        epoch=number,
        lr=0.1,
        train_loss=1.0,
        train_accuracy=0.5,
        val_loss=1.0,
        val_accuracy=0.5,
    )


def test_a_live_file_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "live/cell.jsonl"
    writer, reader = LiveWriter(path=path, candidate=1), LiveReader(path=path)
    assert reader.read_new() == []
    history = [epoch(1)]
    writer.update([], phase=0, epoch=1, images=0)
    writer.update([], phase=0, epoch=1, images=4)  # too early for a line
    writer.update(history, phase=0, epoch=2, images=0)
    first, second = reader.read_new()
    assert (first.images, first.epochs) == (0, ())
    assert (second.candidate, second.epoch, second.epochs) == (1, 2, (epoch(1),))
    with path.open("a") as file:
        file.write('{"candidate": 1, "unix_s": 1.0')
    assert reader.read_new() == []
    with path.open("a") as file:
        file.write(', "phase": 0, "epoch": 3, "images": 0, "epochs": []}\n')
    assert [line.epoch for line in reader.read_new()] == [3]


def test_a_training_goes_on_where_its_live_file_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "live").write_text("no folder")
    writer = LiveWriter(path=tmp_path / "live/cell.jsonl", candidate=0)
    for number in (1, 2):
        writer.update([epoch(1), epoch(2)][:number], phase=0, epoch=number, images=0)
    assert len(caplog.records) == 1


def test_a_live_run_ends_as_one_that_is_made_of_the_files(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = write_params()
    embed_tiny()
    write_lock()
    client = connect(silent)
    experiment_id = open_experiment(client, "tests")
    other = LiveRuns(client, experiment_id, Cell(CELL.variant, 33), params)
    assert other.run_ids == {}
    live = LiveRuns(client, experiment_id, CELL, params)
    train()
    lines = CELL.live.read_text().splitlines(keepends=True)
    assert {json.loads(line)["candidate"] for line in lines} == {0, 1}
    seen = []
    CELL.live.unlink()
    # As if the tracker read after each line.
    for number in range(len(lines)):
        CELL.live.write_text("".join(lines[: number + 1]))
        live.update()
        seen.append({name: len(run.data.metrics) for name, run in runs_of().items()})
    assert seen[0].keys() == {f"{CELL} candidate 1 of 2"}
    assert seen[-1].keys() == {f"{CELL} candidate {number} of 2" for number in (1, 2)}
    running = runs_of()[f"{CELL} candidate 2 of 2"]
    assert running.info.status == "RUNNING"
    assert running.data.params["phases.1.lr"] == "0.01"
    assert running.data.metrics["phase"] == 2
    assert "Now in phase" in running.data.tags["mlflow.note.content"]

    show_cell(
        client, experiment_id, CELL, stages=read_dvc_lock(), beat=silent, compute=params.compute.model_dump(), live=live
    )
    (name,) = runs_of()
    assert name == str(CELL)
    assert runs_of()[name].info.run_id in live.run_ids.values()
    was_live = shown()
    assert was_live["status"] == "FINISHED"
    info = runs_of()[str(CELL)].info
    assert info.start_time <= info.end_time
    write_lock()
    show_cell(client, experiment_id, CELL, stages=read_dvc_lock(), beat=silent)
    assert shown() == was_live

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tiny_project}/other.db")
    other_client = connect(silent)
    show_cell(other_client, open_experiment(other_client, "tests"), CELL, stages=read_dvc_lock(), beat=silent)
    assert shown() == was_live


def test_a_live_run_of_a_state_that_is_shown_already_is_deleted(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = write_params()
    embed_tiny()
    write_lock()
    train()
    client = connect(silent)
    experiment_id = open_experiment(client, "tests")
    first = show_cell(client, experiment_id, CELL, stages=read_dvc_lock(), beat=silent)
    live = LiveRuns(client, experiment_id, CELL, params)
    live.update()
    assert len(runs_of()) == 3
    tag = client.get_experiment(experiment_id).tags[TAG]
    assert json.loads(json.loads(tag)["state"])["searchFilter"] == "", "the view shows live runs too"
    assert show_cell(client, experiment_id, CELL, stages=read_dvc_lock(), beat=silent, live=live) == first
    assert runs_of().keys() == {str(CELL)}

    stopped = LiveRuns(client, experiment_id, CELL, params)
    stopped.update()
    stopped.interrupt()
    assert {run.info.status for run in runs_of().values()} == {"FINISHED", "KILLED"}
