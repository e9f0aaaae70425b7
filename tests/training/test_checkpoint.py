"""Checkpointer: whole or absent, of this run or ignored, and a killed training ends with an undisturbed one's bytes.

Run with: pytest tests/training/test_checkpoint.py
"""

import errno
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT, TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw.errors import TrainingError
from thaw.params import Phase
from thaw.paths import Cell
from thaw.training.checkpoint import Checkpointer, run_key
from thaw.training.train import train_cell
from training.interruption import terminate_after_steps

CELL = Cell("tiny", 0)
CHECKPOINT = CELL.checkpoint(0)


def values() -> dict[str, Any]:
    return {
        "place": {"phase": 1, "epoch": 2, "losses": 0.1 + 0.2, "best": None, "rates": [1e-3, 1e-300]},
        "weights": {"weight": torch.randn(3, 4), "step": torch.tensor(7.0), "mask": torch.tensor([True, False])},
    }


def saved_in(path: Path, *, key: str = "k") -> Checkpointer:
    """A checkpoint of another object of the same run: nothing but the file is shared."""
    Checkpointer(path=path, key=key).save(values())
    return Checkpointer(path=path, key="k")


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    path, state = tmp_path / "a" / "cell.pt", values()
    Checkpointer(path=path, key="k").save(state)
    loaded = Checkpointer(path=path, key="k").load()
    assert loaded is not None
    assert loaded["place"] == state["place"]
    assert loaded["weights"].keys() == state["weights"].keys()
    for name, tensor in loaded["weights"].items():
        assert tensor.dtype == state["weights"][name].dtype
        assert torch.equal(tensor, state["weights"][name])
    assert [file.name for file in path.parent.iterdir()] == ["cell.pt"]


def test_where_nothing_is_saved_nothing_is_loaded(tmp_path: Path) -> None:
    assert Checkpointer(path=tmp_path / "cell.pt", key="k").load() is None


def test_another_runs_checkpoint_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    assert saved_in(path, key="another").load() is None
    assert not path.exists()


def test_a_flipped_bit_in_any_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    checkpointer = saved_in(path)
    whole = path.read_bytes()
    for place in (*range(0, len(whole), 37), len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert checkpointer.load() is None, place
        assert not path.exists()


@pytest.mark.parametrize("damage", ["flipped", "cut", "zeroed", "empty", "text"])
def test_a_damaged_checkpoint_is_put_aside_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "cell.pt"
    checkpointer = saved_in(path)
    whole = path.read_bytes()
    damaged = {
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "cut": whole[:-5],
        "zeroed": bytes(len(whole)),
        "empty": b"",
        "text": b"not a checkpoint",
    }[damage]
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert checkpointer.load() is None
    (record,) = caplog.records
    assert str(tmp_path / "cell.damaged") in record.message
    assert "the run starts again" in record.message
    assert "\n" not in record.message
    assert [file.name for file in tmp_path.iterdir()] == ["cell.damaged"]
    assert (tmp_path / "cell.damaged").read_bytes() == damaged


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "cell.pt"
    Checkpointer(path=path, key="k").save({"trap": Trap()})
    assert Checkpointer(path=path, key="k").load() is None
    assert not (tmp_path / "executed").exists()


def no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_costs_the_new_checkpoint_and_not_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cell.pt"
    checkpointer = saved_in(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with caplog.at_level(logging.WARNING):
        checkpointer.save({"place": "later"})
    (record,) = caplog.records
    assert "cannot be written" in record.message
    assert "No space left on device" in record.message
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["cell.pt"]


def test_a_checkpoint_is_due_when_the_work_is_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = Checkpointer(path=tmp_path / "cell.pt", key="k")
    assert checkpointer.is_due(epoch_ended=True)
    assert not checkpointer.is_due(epoch_ended=False)
    monkeypatch.setattr("thaw.training.checkpoint.SAVE_INTERVAL_S", 0.0)
    assert checkpointer.is_due(epoch_ended=False)
    checkpointer.save(values())
    # Nothing has been computed since.
    assert not checkpointer.is_due(epoch_ended=True)


def test_the_key_changes_with_each_fact() -> None:
    facts = {"seed": 0, "phases": [{"lr": 0.001}]}
    key = run_key(facts, module="training.train")
    assert run_key({"phases": [{"lr": 0.001}], "seed": 0}, module="training.train") == key
    others = [
        run_key({**facts, "seed": 1}, module="training.train"),
        run_key({**facts, "phases": [{"lr": 0.002}]}, module="training.train"),
        run_key(facts, module="training.embed"),
    ]
    assert key not in others


def test_a_training_that_is_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one() -> None:
    command = [sys.executable, "tools/kill_training.py", "--kills", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills: the same bytes" in done.stdout


@pytest.fixture
def train(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Trains a small cell in this process, which gets a SIGTERM after so many steps."""
    embed_tiny()

    def train(*, stop_after_steps: int | None = None, lr: float = 0.01) -> None:
        with monkeypatch.context() as patched:
            terminate_after_steps(patched, stop_after_steps)
            train_cell(
                CELL,
                candidates=[(Phase(train="all", epochs=3, lr=lr),)],
                backbone=TINY_BACKBONE,
                storage=TINY_STORAGE,
                val="fixed",
                training=TINY_TRAINING,
            )

    return train


def trained_bytes() -> list[bytes]:
    return [path.read_bytes() for path in (CELL.model / "model.safetensors", CELL.model / "model.json", CELL.history)]


def test_sigterm_within_an_epoch_is_one_sentence_and_the_next_try_resumes(train: Callable[..., None]) -> None:
    train()
    undisturbed = trained_bytes()
    shutil.rmtree(CELL.model)
    # 12 images in batches of 4: the schedule steps once when it is made, and then after each batch.
    sentence = r"^tiny-0: stopped by SIGTERM in phase 1, after batch 2 of epoch 2; run the same command to resume$"
    with pytest.raises(TrainingError, match=sentence):
        train(stop_after_steps=6)
    assert CHECKPOINT.exists()
    assert not CELL.model.exists()
    train()
    assert trained_bytes() == undisturbed
    assert not CHECKPOINT.exists()


def test_a_resumed_run_does_no_batch_twice(train: Callable[..., None]) -> None:
    with pytest.raises(TrainingError, match="after batch 1 of epoch 3"):
        train(stop_after_steps=8)
    # Two batches and the schedule's own step are left, so no signal comes.
    train(stop_after_steps=4)


def test_a_changed_parameter_does_not_resume_the_old_run(train: Callable[..., None]) -> None:
    train(lr=0.02)
    undisturbed = trained_bytes()
    with pytest.raises(TrainingError, match="stopped by SIGTERM"):
        train(stop_after_steps=6, lr=0.01)
    train(lr=0.02)
    assert trained_bytes() == undisturbed


def test_a_run_with_a_damaged_checkpoint_starts_again_and_ends_with_the_same_bytes(
    train: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    train()
    undisturbed = trained_bytes()
    with pytest.raises(TrainingError, match="stopped by SIGTERM"):
        train(stop_after_steps=6)
    content = CHECKPOINT.read_bytes()
    CHECKPOINT.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    train()
    assert "the checkpoint is damaged" in caplog.text
    assert CHECKPOINT.with_suffix(".damaged").exists()
    assert trained_bytes() == undisturbed


def test_a_full_disk_costs_the_checkpoints_and_not_the_run(
    train: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train()
    undisturbed = trained_bytes()
    tried = 0
    save = Checkpointer.save

    def counted_save(checkpointer: Checkpointer, state: Mapping[str, Any]) -> None:
        nonlocal tried
        tried += 1
        save(checkpointer, state)

    monkeypatch.setattr(Checkpointer, "save", counted_save)
    monkeypatch.setattr(os, "fsync", no_space)
    train()
    assert tried > 0
    assert caplog.text.count("cannot be written") == tried
    assert not CHECKPOINT.exists()
    assert trained_bytes() == undisturbed
