"""Checkpoints: whole or absent, of this run or ignored, and a killed training ends with an undisturbed one's bytes."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import ROOT, TINY_BACKBONE, TINY_TRAINING
from thaw import layout
from thaw.checkpoint import (
    Checkpoint,
    Checkpoints,
    noted_signals,
    optimizer_tensors,
    restore_optimizer,
    run_key,
)
from thaw.embed import embed_pictures
from thaw.errors import TrainingError
from thaw.layout import Cell
from thaw.params import Phase
from thaw.train import train_cell

CELL = Cell("tiny", 0)

POSITION = {"phase": 1, "epoch": 2, "losses": 0.1 + 0.2, "best": None}


def checkpoint() -> Checkpoint:
    tensors = {"weight": torch.randn(3, 4), "step": torch.tensor(7.0), "mask": torch.tensor([True, False])}
    return Checkpoint(position=POSITION, tensors=tensors)


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    saved = checkpoint()
    Checkpoints(path=tmp_path / "a" / "cell.safetensors", key="k").save(saved)
    loaded = Checkpoints(path=tmp_path / "a" / "cell.safetensors", key="k").load()
    assert loaded is not None
    assert loaded.position == saved.position
    assert loaded.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(tensor, saved.tensors[name]) for name, tensor in loaded.tensors.items())


def test_where_nothing_is_saved_nothing_is_loaded(tmp_path: Path) -> None:
    assert Checkpoints(path=tmp_path / "cell.safetensors", key="k").load() is None


def test_another_runs_checkpoint_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "cell.safetensors"
    Checkpoints(path=path, key="k").save(checkpoint())
    assert Checkpoints(path=path, key="another").load() is None
    assert not path.exists()


@pytest.mark.parametrize("damage", ["cut", "zeroed", "flipped", "position", "text"])
def test_an_unreadable_checkpoint_is_put_aside_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "cell.safetensors"
    Checkpoints(path=path, key="k").save(checkpoint())
    whole = path.read_bytes()
    damaged = {
        "cut": whole[:-5],
        "zeroed": bytes(len(whole)),
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "position": whole.replace(b'\\"epoch\\": ', b'\\"epocH\\": ', 1),
        "text": b"not a checkpoint",
    }[damage]
    assert damaged != whole
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert Checkpoints(path=path, key="k").load() is None
    assert len(caplog.records) == 1
    assert "the work starts anew" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["cell.unreadable"]


def test_a_checkpoint_is_due_when_the_work_is_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(path=tmp_path / "cell.safetensors", key="k")
    assert checkpoints.are_due(epoch_ended=True)
    assert not checkpoints.are_due(epoch_ended=False)
    monkeypatch.setattr("thaw.checkpoint.EVERY_S", 0.0)
    assert checkpoints.are_due(epoch_ended=False)
    checkpoints.save(checkpoint())
    # Nothing has been computed since.
    assert not checkpoints.are_due(epoch_ended=True)


def test_the_key_changes_with_each_fact() -> None:
    facts = {"seed": 0, "phases": [{"lr": 0.001}]}
    assert run_key(facts) == run_key({"phases": [{"lr": 0.001}], "seed": 0})
    assert run_key(facts) != run_key({**facts, "seed": 1})
    assert run_key(facts) != run_key({**facts, "phases": [{"lr": 0.002}]})


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_a_restored_optimiser_goes_on_to_the_bit(kind: str) -> None:
    def build() -> tuple[nn.Conv2d, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        groups = [{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias], "lr": 0.3}]
        if kind == "AdamW":
            return layer, torch.optim.AdamW(groups, lr=0.1)
        return layer, torch.optim.SGD(groups, lr=0.1, momentum=0.9)

    def step(layer: nn.Conv2d, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        output: Tensor = layer(torch.ones(1, 3, 8, 8))
        output.square().sum().backward()
        optimizer.step()

    undisturbed, theirs = build()
    step(undisturbed, theirs)
    theirs.param_groups[0]["lr"] = 0.05
    saved, tensors = undisturbed.state_dict(), optimizer_tensors(theirs)
    saved = {name: tensor.clone() for name, tensor in saved.items()}
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    step(undisturbed, theirs)

    resumed, ours = build()
    resumed.load_state_dict(saved)
    restore_optimizer(ours, tensors, learning_rates=[0.05, 0.3])
    step(resumed, ours)
    expected = undisturbed.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())
    assert [group["lr"] for group in ours.param_groups] == [0.05, 0.3]
    strides = [value.stride() for value in optimizer_tensors(ours).values()]
    assert strides == [value.stride() for value in optimizer_tensors(theirs).values()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_once_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with noted_signals() as came:
        assert came() is None
        os.kill(os.getpid(), number)
        assert came() == number.name
        # A second signal is not noted but acts.
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_signal_ends_the_work_at_once() -> None:
    program = (
        "import os, signal; from thaw.checkpoint import noted_signals\n"
        "with noted_signals():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == ""
    # Of several processes, each may get it from Slurm and from torchrun.
    environment = {**os.environ, "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still here\n")


def test_a_training_that_is_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one() -> None:
    command = [sys.executable, "bench/kill_training.py", "--kills", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout


@pytest.fixture
def train(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Trains a small cell in this process, which gets a SIGTERM after so many steps."""
    embed_pictures(
        backbone=TINY_BACKBONE, batch_size=5, pictures=layout.PICTURES, features=layout.FEATURES, cost=layout.EMBED_COST
    )

    def train(*, stop_after_steps: int | None = None, lr: float = 0.01) -> None:
        steps, step = 0, torch.optim.lr_scheduler.LRScheduler.step

        def counted_step(self: torch.optim.lr_scheduler.LRScheduler) -> None:
            nonlocal steps
            step(self)
            steps += 1
            if steps == stop_after_steps:
                os.kill(os.getpid(), signal.SIGTERM)

        phases = [Phase(train="all", epochs=3, lr=lr)]
        with monkeypatch.context() as patched:
            patched.setattr(torch.optim.lr_scheduler.LRScheduler, "step", counted_step)
            train_cell(CELL, phases=phases, backbone=TINY_BACKBONE, training=TINY_TRAINING)

    return train


def trained_bytes() -> list[bytes]:
    return [path.read_bytes() for path in (CELL.model / "model.safetensors", CELL.model / "model.json", CELL.history)]


def test_sigterm_within_an_epoch_is_one_sentence_and_the_next_try_goes_on(train: Callable[..., None]) -> None:
    train()
    undisturbed = trained_bytes()
    shutil.rmtree(CELL.model)
    # 12 pictures in batches of 4: the schedule steps once when it is made, and then after each batch.
    with pytest.raises(
        TrainingError, match=r"^tiny-0: stopped by SIGTERM in phase 1, after batch 2 of epoch 2; run the same"
    ):
        train(stop_after_steps=6)
    assert CELL.checkpoint.exists()
    assert not CELL.model.exists()
    train()
    assert trained_bytes() == undisturbed
    assert not CELL.checkpoint.exists()


def test_a_resumed_run_does_no_batch_twice(train: Callable[..., None]) -> None:
    with pytest.raises(TrainingError, match="after batch 1 of epoch 3"):
        train(stop_after_steps=8)
    # Two batches and the schedule's own step are left, so no signal comes.
    train(stop_after_steps=4)


def test_a_changed_parameter_does_not_go_on_from_the_old_run(train: Callable[..., None]) -> None:
    train(lr=0.02)
    undisturbed = trained_bytes()
    with pytest.raises(TrainingError, match="stopped by SIGTERM"):
        train(stop_after_steps=6, lr=0.01)
    train(lr=0.02)
    assert trained_bytes() == undisturbed
