"""The training loop: frozen means frozen, equal phases give equal bytes, the best epoch is kept.

Run with: pytest tests/training/test_loop.py
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TINY_BACKBONE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.data.features import LabelledImages, read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.errors import ConfigError, DataError, DivergedError
from thaw.network.backbone import Backbone
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier, backbone_tensors_moved, module_sha256
from thaw.params import AnyPhase, Phase, SGDParams, SolvedPhase, TrainingParams
from thaw.paths import Cell
from thaw.training.inputs import TrainingData
from thaw.training.loop import FitResult, fit

HEAD = Phase(train="head", epochs=3, lr=0.01)
ALL = Phase(train="all", epochs=2, lr=0.01)


@pytest.fixture
def archive(tiny_project: Path) -> Iterator[ImageZip]:
    embed_tiny()
    with ImageZip(paths.IMAGES) as opened:
        yield opened


def pretrained() -> Backbone:
    return build_backbone(TINY_BACKBONE)


def run(
    archive: ImageZip, *phases: AnyPhase, params: TrainingParams = TINY_TRAINING, val: LabelledImages | None = None
) -> tuple[Classifier, FitResult]:
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    model = Classifier(pretrained(), classes=splits.classes, seed=0)

    train = select_split("train", splits=splits, features=table, classes=splits.classes)
    val = val or select_split("val", splits=splits, features=table, classes=splits.classes)
    data = TrainingData(train=train, val=val, images=archive)
    result = fit(model, phases, cell=Cell("tiny", 0), data=data, params=params)
    return model, result


def wrong_val() -> LabelledImages:
    """The validation split under wrong labels: the better the model gets, the worse it looks."""
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    val = select_split("val", splits=splits, features=table, classes=splits.classes)
    return replace(val, labels=1 - val.labels)


def states_equal(a: Classifier, b: Classifier) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in a.state_dict().items())


def test_a_head_phase_moves_no_bit_of_the_backbone_and_does_move_the_head(archive: ImageZip) -> None:
    model, _ = run(archive, HEAD)
    assert backbone_tensors_moved(model, pretrained()) == 0
    assert not torch.equal(model.head.weight, Classifier(pretrained(), classes=("a", "b"), seed=0).head.weight)


def test_an_all_phase_moves_every_weight_but_no_batch_norm_statistic(archive: ImageZip) -> None:
    model, _ = run(archive, ALL)
    before = pretrained().module.state_dict()
    for name, tensor in model.backbone.state_dict().items():
        is_statistic = "running" in name or "tracked" in name
        assert torch.equal(tensor, before[name]) == is_statistic, name


def test_batch_norm_statistics_move_where_that_is_asked_for(archive: ImageZip) -> None:
    model, _ = run(archive, ALL, params=TINY_TRAINING.model_copy(update={"batch_norm": "train"}))
    before = pretrained().module.state_dict()
    moved = [name for name, tensor in model.backbone.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any("running_mean" in name for name in moved)


def test_two_runs_are_equal_to_the_bit(archive: ImageZip) -> None:
    (first, first_fit), (second, second_fit) = run(archive, HEAD, ALL), run(archive, HEAD, ALL)
    assert states_equal(first, second)
    assert first_fit.history.epochs == second_fit.history.epochs


def test_phase_one_of_two_stages_is_the_frozen_variant_to_the_bit(archive: ImageZip) -> None:
    _, frozen = run(archive, HEAD)
    _, two_stage = run(archive, HEAD, ALL)
    assert two_stage.history.epochs[: len(frozen.history.epochs)] == frozen.history.epochs


def test_a_second_phase_that_makes_nothing_better_leaves_the_first_ones_model(archive: ImageZip) -> None:
    val = wrong_val()
    frozen, _ = run(archive, HEAD, val=val)
    ruined, result = run(archive, HEAD, Phase(train="all", epochs=1, lr=100.0), val=val)
    assert result.best.phase == 0
    assert states_equal(ruined, frozen)


def test_the_epoch_with_the_lowest_validation_loss_is_kept(archive: ImageZip) -> None:
    wrong = wrong_val()
    model, result = run(archive, Phase(train="head", epochs=4, lr=0.1), val=wrong)
    losses = [epoch.val_loss for epoch in result.history.epochs]
    assert result.best.val_loss == min(losses) < losses[-1]
    with torch.inference_mode():
        logits = model.head(torch.from_numpy(wrong.features))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(wrong.labels)).item()
    assert loss == pytest.approx(result.best.val_loss, rel=1e-5)


def test_a_phase_that_gets_no_better_ends_early(archive: ImageZip) -> None:
    patient = TINY_TRAINING.model_copy(update={"patience_epochs": 2})
    _, result = run(archive, Phase(train="head", epochs=50, lr=5.0), params=patient)
    assert len(result.history.epochs) < 50
    assert len(result.history.epochs) - result.best.epoch == 2


def test_a_loss_that_is_not_finite_names_run_phase_and_epoch(archive: ImageZip) -> None:
    _, result = run(archive, HEAD, Phase(train="head", epochs=2, lr=1e30))
    assert isinstance(result.outcome, DivergedError)
    assert re.search(r"tiny-0: .* phase 2 \(head\), epoch 1; lower variants.tiny.1.lr", str(result.outcome))
    with pytest.raises(DivergedError):
        result.history  # noqa: B018 (it is what raises)


def test_features_are_what_the_backbone_makes(archive: ImageZip) -> None:
    table = read_features(paths.FEATURES)
    assert table.views.shape == (24, 1, 16)
    assert table.views.dtype == np.float32
    assert table.paths == tuple(archive.paths)
    assert np.array_equal(table.select(table.paths[3:1:-1]), table.views[[3, 2]])


def test_features_of_another_backbone_are_refused(archive: ImageZip) -> None:
    table = read_features(paths.FEATURES)
    table.require_made_by(name="tiny", backbone_sha256=module_sha256(pretrained().module))
    with pytest.raises(DataError, match="dvc repro --force --single-item embed"):
        table.require_made_by(name="tiny", backbone_sha256="0" * 64)


@pytest.mark.parametrize("train", ["head", "all"])
@pytest.mark.parametrize("accumulated", [(2, 4), (5, 2)])
def test_accumulated_batches_learn_what_one_large_batch_learns(
    archive: ImageZip, train: str, accumulated: tuple[int, int]
) -> None:
    # 12 images: steps of 8 and 4, or of 10 and 2, so that the last group is incomplete.
    batch_size, batches = accumulated
    small = TINY_TRAINING.model_copy(update={"batch_size": batch_size, "grad_accum_steps": batches})
    large = TINY_TRAINING.model_copy(update={"batch_size": batch_size * batches})
    plain = TINY_TRAINING.model_copy(update={"batch_size": batch_size})
    # SGD, since AdamW's first step goes by the sign of the gradient, whatever its size.
    (a, a_fit), (b, b_fit), (c, _) = (
        run(archive, Phase(train=train, epochs=3, lr=0.01), params=params.model_copy(update={"optimizer": SGDParams()}))
        for params in (small, large, plain)
    )
    assert [epoch.train_loss for epoch in a_fit.history.epochs] == pytest.approx(
        [epoch.train_loss for epoch in b_fit.history.epochs]
    )
    assert [epoch.lr for epoch in a_fit.history.epochs] == [epoch.lr for epoch in b_fit.history.epochs]
    assert torch.allclose(a.head.weight, b.head.weight, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(a.head.weight, c.head.weight, rtol=1e-4, atol=1e-7)


def test_the_last_blocks_alone_move_whatever_batch_norm_is_told(archive: ImageZip) -> None:
    params = TINY_TRAINING.model_copy(update={"batch_norm": "train"})
    model, result = run(archive, Phase(train="last:1", epochs=2, lr=0.01), params=params)
    before = pretrained().module.state_dict()
    moved = {name for name, tensor in model.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.startswith("blocks.features_1.")}
    assert {epoch.train for epoch in result.history.epochs} == {"last:1"}


def test_more_blocks_than_there_are_is_one_sentence_before_anything_is_trained(archive: ImageZip) -> None:
    with pytest.raises(ConfigError) as caught:
        run(archive, HEAD, Phase(train="last:3", epochs=1, lr=0.01))
    assert str(caught.value) == (
        "variants.tiny.1.train: last:3 asks for more blocks than the backbone has, 2 from input to output: "
        "features_0, features_1; write last:2 or less, or all"
    )


def test_all_knobs_at_once_are_repeatable_to_the_bit(archive: ImageZip) -> None:
    changes = {"optimizer": SGDParams(), "mixup_alpha": 0.4, "label_smoothing": 0.1, "layer_decay": 0.5}
    params = TINY_TRAINING.model_copy(update=changes)
    phases = (HEAD, Phase(train="last:1", epochs=1, lr=0.01), ALL)
    (first, first_fit), (second, second_fit) = (
        run(archive, *phases, params=params),
        run(archive, *phases, params=params),
    )
    assert states_equal(first, second)
    assert first_fit.history.epochs == second_fit.history.epochs


def test_smoothing_and_mixup_leave_the_validation_loss_comparable(archive: ImageZip) -> None:
    # At a rate near 0 the model stays as it is: only the loss that is trained on may differ.
    still = Phase(train="head", epochs=1, lr=1e-12)
    plain, smoothed = (
        run(archive, still, params=TINY_TRAINING.model_copy(update=changes))[1].history.epochs[0]
        for changes in ({}, {"label_smoothing": 0.5, "mixup_alpha": 0.4})
    )
    assert smoothed.val_loss == pytest.approx(plain.val_loss)
    assert smoothed.train_loss != pytest.approx(plain.train_loss, rel=1e-4)


@pytest.mark.parametrize("phase", [HEAD, SolvedPhase(), ALL], ids=["head", "solved", "all"])
def test_balanced_classes_weigh_the_loss_that_is_trained_and_the_one_that_chooses(
    archive: ImageZip, phase: AnyPhase
) -> None:
    # Smoothed, so that a solved head of few images does not end in a loss of 0.
    plain = TINY_TRAINING.model_copy(update={"label_smoothing": 0.3})
    balanced = plain.model_copy(update={"class_weights": "balanced"})
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    train, val = (
        select_split(split, splits=splits, features=table, classes=splits.classes) for split in ("train", "val")
    )
    # The tiny project is balanced, where weights are 1 and change nothing beyond rounding; a third of the cats is not.
    few = np.sort(np.concatenate([np.flatnonzero(train.labels == 0)[:2], np.flatnonzero(train.labels == 1)]))
    rare = replace(train, paths=tuple(train.paths[i] for i in few), labels=train.labels[few], views=train.views[few])
    few_val = np.sort(np.concatenate([np.flatnonzero(val.labels == 0)[:1], np.flatnonzero(val.labels == 1)]))
    rare_val = replace(
        val, paths=tuple(val.paths[i] for i in few_val), labels=val.labels[few_val], views=val.views[few_val]
    )
    found = {}
    for name, params in (("none", plain), ("balanced", balanced)):
        model = Classifier(pretrained(), classes=splits.classes, seed=0)
        data = TrainingData(train=rare, val=rare_val, images=archive)
        result = fit(model, [phase], cell=Cell("tiny", 0), data=data, params=params)
        with torch.inference_mode():
            log_p = model.head(torch.from_numpy(rare_val.features)).log_softmax(dim=1).numpy()
        own = -log_p[np.arange(len(few_val)), rare_val.labels]
        found[name] = model, result, own
    model, result, own = found["balanced"]
    assert not states_equal(model, found["none"][0])
    if phase != ALL:  # where the backbone moves, the features are others
        by_class = np.mean([own[rare_val.labels == label].mean() for label in (0, 1)])
        assert result.best.val_loss == pytest.approx(by_class, rel=1e-4)
    same = [run(archive, phase, params=params)[1].history.epochs[0].val_loss for params in (plain, balanced)]
    assert same[0] == pytest.approx(same[1], rel=1e-4)
