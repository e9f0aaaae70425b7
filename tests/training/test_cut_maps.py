"""A phase on maps that were computed once is the phase on the same views, and what lies below the cut stays.

Run with: pytest tests/training/test_cut_maps.py
"""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.data.features import read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.errors import ConfigError, TrainingError
from thaw.network import fusion
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.network.cut import CutModel, cut_model, require_cut
from thaw.network.model_card import read_model_card
from thaw.params import AnyPhase, Phase, SGDParams, SolvedPhase, TrainingParams
from thaw.paths import Cell
from thaw.training import cut_maps
from thaw.training.flops import count_forward_flops
from thaw.training.infer_views import infer_views
from thaw.training.inputs import TrainingData
from thaw.training.loop import FitResult, fit
from thaw.training.train import train_cell
from training.interruption import terminate_after_steps

CELL = Cell("tiny", 0)
HEAD = Phase(train="head", epochs=1, lr=0.01)
ALL = Phase(train="all", epochs=1, lr=0.01)
LAST = Phase(train="last:1", epochs=2, lr=0.01, views=3)
STEADY = TINY_TRAINING.model_copy(update={"optimizer": SGDParams()})


@pytest.fixture
def archive(tiny_project: Path) -> Iterator[ImageZip]:
    embed_tiny()
    with ImageZip(paths.IMAGES) as opened:
        yield opened


def run(archive: ImageZip, *phases: AnyPhase, params: TrainingParams = STEADY) -> tuple[Classifier, FitResult]:
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    model = Classifier(build_backbone(TINY_BACKBONE), classes=splits.classes, seed=0)
    train, val = (
        select_split(split, splits=splits, features=table, classes=splits.classes) for split in ("train", "val")
    )
    data = TrainingData(train=train, val=val, images=archive)
    return model, fit(model, phases, cell=CELL, data=data, params=params)


def train(candidates: Sequence[tuple[AnyPhase, ...]]) -> None:
    train_cell(
        CELL,
        candidates=candidates,
        backbone=TINY_BACKBONE,
        storage=TINY_STORAGE,
        val="fixed",
        training=TINY_TRAINING,
    )


def trained_bytes() -> list[bytes]:
    return [path.read_bytes() for path in (CELL.model / "model.safetensors", CELL.model / "model.json", CELL.history)]


def run_whole_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, what is kept of each view is the view itself, and each epoch runs the whole model on it."""

    def uncut(model: Classifier, phase: Phase, *, place: str) -> CutModel:
        return replace(require_cut(model, phase, place=place), above=model, shape=(3, 32, 32))

    monkeypatch.setattr("thaw.training.inputs.require_cut", uncut)
    monkeypatch.setattr(fusion, "fuse_for_inference", lambda *_: lambda images: images)


@pytest.mark.parametrize("batch_norm", ["frozen_stats", "train"])
@pytest.mark.parametrize("earlier", [(), (SolvedPhase(),), (ALL,)], ids=["alone", "after a head", "after all"])
def test_it_learns_what_the_whole_model_learns_on_the_same_views(
    archive: ImageZip, monkeypatch: pytest.MonkeyPatch, earlier: tuple[AnyPhase, ...], batch_norm: str
) -> None:
    params = STEADY.model_copy(update={"batch_norm": batch_norm})
    model, result = run(archive, *earlier, LAST, params=params)
    run_whole_images(monkeypatch)
    whole, expected = run(archive, *earlier, LAST, params=params)
    for epoch, other in zip(result.history.epochs, expected.history.epochs, strict=True):
        assert epoch.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert epoch.val_loss == pytest.approx(other.val_loss, rel=1e-4)
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(model.state_dict()[name].double(), tensor.double(), rtol=1e-3, atol=1e-5), name


def test_the_last_blocks_alone_move_whatever_batch_norm_is_told(archive: ImageZip) -> None:
    model, _ = run(archive, LAST, params=STEADY.model_copy(update={"batch_norm": "train"}))
    before = build_backbone(TINY_BACKBONE).module.state_dict()
    moved = {name for name, tensor in model.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.startswith("blocks.features_1.")}


def test_an_epoch_shows_one_view_of_each_image_and_epochs_differ(archive: ImageZip) -> None:
    still = {"lr": 1e-12, "epochs": 2}
    one, several = (run(archive, LAST.model_copy(update={**still, "views": views}))[1] for views in (1, 3))
    first, second = (epoch.train_loss for epoch in one.history.epochs)
    assert first == pytest.approx(second, rel=1e-5)
    first, second = (epoch.train_loss for epoch in several.history.epochs)
    assert first != pytest.approx(second, rel=1e-5)
    assert one.history.epochs[0].val_loss == pytest.approx(several.history.epochs[0].val_loss, rel=1e-5)
    assert several.images_seen == 0


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images had maps computed, a split at a time."""
    counts = []
    real = cut_maps.CutMaps._compute

    def spy(self: cut_maps.CutMaps, paths: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        counts.append(len(paths))
        return real(self, paths, *args, **kwargs)

    monkeypatch.setattr(cut_maps.CutMaps, "_compute", spy)
    return counts


@pytest.mark.usefixtures("archive")
def test_candidates_share_the_maps_and_their_cost_is_counted_once(computed: list[int]) -> None:
    candidates = [(HEAD, LAST.model_copy(update={"lr": lr})) for lr in (0.01, 0.02)]
    alone = []
    for candidate in candidates:
        train([candidate])
        alone.append(read_model_card(CELL.model).compute)
    computed.clear()
    train(candidates)
    assert computed == [12, 6]
    model = Classifier(build_backbone(TINY_BACKBONE), classes=("Cat", "Dog"), seed=0)
    cut = cut_model(model, last_blocks=1)
    assert cut is not None
    maps = (12 * 3 + 6) * count_forward_flops(cut.below, size_px=32)
    assert read_model_card(CELL.model).compute.flops == sum(cost.flops for cost in alone) - maps


@pytest.mark.usefixtures("archive")
def test_after_a_phase_that_moved_what_lies_below_they_are_computed_anew(computed: list[int]) -> None:
    train([(ALL.model_copy(update={"lr": lr}), LAST) for lr in (0.01, 0.02)])
    assert computed[:4] == [12, 6, 12, 6]


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("stop_after_steps", [2, 6, 9])
def test_stopped_anywhere_it_ends_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch, stop_after_steps: int) -> None:
    candidates = [(SolvedPhase(), LAST.model_copy(update={"lr": lr})) for lr in (0.01, 0.02)]
    train(candidates)
    undisturbed = trained_bytes()
    shutil.rmtree(CELL.model)
    terminate_after_steps(monkeypatch, stop_after_steps)
    monkeypatch.setattr("thaw.training.checkpoint.WORK_PER_COST", 0)
    with pytest.raises(TrainingError, match=r"^tiny-0: stopped by SIGTERM in phase 2, after batch"):
        train(candidates)
    train(candidates)
    assert trained_bytes() == undisturbed


@pytest.mark.usefixtures("archive")
def test_stopped_while_maps_are_computed_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for made in infer_views(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            yield made

    monkeypatch.setattr(cut_maps, "infer_views", stopping)
    with pytest.raises(TrainingError, match=r"^tiny-0, maps at the cut: stopped by SIGTERM; run the same"):
        train([(LAST,)])


def test_maps_that_do_not_fit_into_memory_are_one_sentence(archive: ImageZip, monkeypatch: pytest.MonkeyPatch) -> None:
    # A map has 16 x 16 x 16 numbers of 4 bytes; there are 12 images to train on, and 6 to validate with.
    map_bytes = 4 * 16**3
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=map_bytes * (12 * 2 + 6)))
    run(archive, LAST.model_copy(update={"views": 2}))
    with pytest.raises(ConfigError) as caught:
        run(archive, LAST)
    assert str(caught.value) == (
        "variants.tiny.0.views: the maps of 3 views below last:1 of 12 images take 0.0 GB, and 0.0 GB of memory are "
        "free; set it to 2 or less, or remove it"
    )


def test_the_processes_of_a_machine_share_its_memory(archive: ImageZip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 16**3 * (12 * 3 + 6)))
    run(archive, LAST)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"of memory are free; set it to 1 or less, or remove it$"):
        run(archive, LAST)


def test_maps_are_counted_as_often_as_they_are_computed() -> None:
    one, three = ({f"a-train-{views}": 12 * views, "a-val-1": 6} for views in (1, 3))
    assert cut_maps.count_maps_flops([one, one]) == 18
    assert cut_maps.count_maps_flops([one, three, one, three]) == 12 + 36 + 12 + 36 + 6
    other = {"b-train-1": 12, "b-val-1": 6}
    assert cut_maps.count_maps_flops([one | other, one | other]) == 4 * 18
