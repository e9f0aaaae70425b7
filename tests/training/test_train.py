"""A cell: the best candidate is kept and all are counted, frozen is frozen, and val is drawn as it was asked for.

Run with: pytest tests/training/test_train.py
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.data.features import read_features, select_split
from thaw.data.splits_csv import Split, read_splits, redraw_val
from thaw.errors import ConfigError, DivergedError, TrainingError
from thaw.evaluation.evaluate import evaluate_cell
from thaw.network.backbones import build_backbone
from thaw.network.classifier import backbone_tensors_moved, load_model
from thaw.network.model_card import read_model_card
from thaw.params import AnyPhase, Phase, SGDParams, SolvedPhase, TrainingParams, ValDraw
from thaw.paths import Cell
from thaw.training import loop
from thaw.training.cost_json import read_train_cost
from thaw.training.head_solver import SolvedHead, solve_head
from thaw.training.history_csv import read_history
from thaw.training.notes import Training, note_training
from thaw.training.provenance import describe_provenance
from thaw.training.train import train_cell
from training.interruption import terminate_after_steps

CELL = Cell("tiny", 0)
HEAD = Phase(train="head", epochs=3, lr=0.01)
ALL = Phase(train="all", epochs=2, lr=0.01)


@pytest.fixture(autouse=True)
def _embedded(tiny_project: Path) -> None:
    embed_tiny()


def train(
    candidates: Sequence[tuple[AnyPhase, ...]],
    *,
    cell: Cell = CELL,
    val: ValDraw = "fixed",
    training: TrainingParams = TINY_TRAINING,
    train_fraction: float = 1.0,
) -> None:
    train_cell(
        cell,
        candidates=candidates,
        backbone=TINY_BACKBONE,
        storage=TINY_STORAGE,
        val=val,
        training=training,
        train_fraction=train_fraction,
    )


def trained_bytes(cell: Cell = CELL) -> list[bytes]:
    return [path.read_bytes() for path in (cell.model / "model.safetensors", cell.model / "model.json", cell.history)]


def losses(cell: Cell = CELL) -> list[float]:
    return [epoch.val_loss for epoch in read_history(cell.history).epochs]


def test_the_candidate_with_the_lowest_validation_loss_is_the_model() -> None:
    # The second learns, the others stay where they are.
    rates = (1e-9, 0.03, 1e-8)
    candidates = [(Phase(train="head", epochs=2, lr=lr),) for lr in rates]
    alone = []
    for number, candidate in enumerate(candidates):
        cell = Cell(f"alone_{number}", CELL.seed)
        train([candidate], cell=cell)
        alone.append((cell, min(losses(cell))))
    train(candidates)
    card = read_model_card(CELL.model)
    assert [candidate.phases for candidate in card.candidates] == candidates
    assert [candidate.val_loss for candidate in card.candidates] == [loss for _, loss in alone]
    assert alone[1][1] < min(alone[0][1], alone[2][1])
    assert card.phases == candidates[1]
    assert card.best == card.candidates[1].best
    # Whatever came before or after it, it is the model that it would have been alone.
    assert trained_bytes()[0] == trained_bytes(alone[1][0])[0]
    assert trained_bytes()[2] == trained_bytes(alone[1][0])[2]


def test_of_equal_candidates_the_first_is_the_model() -> None:
    train([(HEAD,), (HEAD,)])
    card = read_model_card(CELL.model)
    assert card.candidates[0] == card.candidates[1]
    assert len(card.candidates) == 2


@pytest.mark.parametrize("place", [0, 1])
def test_a_candidate_that_diverges_is_left_out_and_counted(place: int) -> None:
    sound, lost = (Phase(train="all", epochs=2, lr=lr) for lr in (0.01, 1e30))
    train([(sound,)])
    alone, compute = trained_bytes(), read_model_card(CELL.model).compute
    candidates = [(sound,), (sound,)]
    candidates[place] = (lost,)
    train(candidates)
    card = read_model_card(CELL.model)
    assert (trained_bytes()[0], trained_bytes()[2]) == (alone[0], alone[2])
    assert card.candidates[place].val_loss is None
    assert card.candidates[place].best is None
    assert card.compute.flops > compute.flops
    run = Training(card=card, history=read_history(CELL.history))
    assert (
        note_training("tiny", [run])[0]
        == "tiny: all at 1e+30 for 2 epochs at most was left out: its loss did not stay finite."
    )


def test_where_all_candidates_diverge_nothing_is_written() -> None:
    with pytest.raises(DivergedError, match=r"lower variants\.tiny\.0\.lr, which is 1e\+30"):
        train([(Phase(train="all", epochs=2, lr=lr),) for lr in (1e30, 1e35)])
    assert not CELL.model.exists()


def test_candidates_share_the_solved_head(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []

    def spy(features: NDArray[np.float32], *args: Any, **kwargs: Any) -> SolvedHead:
        widths.append(features.shape[1])
        return solve_head(features, *args, **kwargs)

    monkeypatch.setattr(loop, "solve_head", spy)
    train([(SolvedPhase(), ALL), (SolvedPhase(), ALL.model_copy(update={"lr": 0.02}))])
    assert len(widths) == 1


def test_all_candidates_are_counted() -> None:
    counted = []
    candidates = [(HEAD, ALL), (HEAD, ALL.model_copy(update={"lr": 0.02}))]
    for candidate in candidates:
        train([candidate])
        counted.append(read_model_card(CELL.model).compute)
    train(candidates)
    both = read_model_card(CELL.model).compute
    assert both.flops == sum(compute.flops for compute in counted)
    assert [compute.images_seen for compute in counted] == [2 * 12, 2 * 12]
    assert both.images_seen == 2 * 2 * 12
    cost = read_train_cost(CELL.cost)
    assert [phase.train for phase in cost.phases] == ["head", "all", "head", "all"]
    assert cost.train_seconds >= sum(phase.seconds for phase in cost.phases)
    assert cost.images_per_second == both.images_seen / cost.train_seconds


@pytest.mark.parametrize("stop_after_steps", [3, 8, 12])
def test_killed_in_any_candidate_it_ends_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, stop_after_steps: int
) -> None:
    candidates: list[tuple[AnyPhase, ...]] = [(Phase(train="all", epochs=2, lr=lr),) for lr in (1e-9, 0.01)]
    train(candidates)
    undisturbed, compute = trained_bytes(), read_model_card(CELL.model).compute
    shutil.rmtree(CELL.model)
    CELL.history.unlink()
    taken = terminate_after_steps(monkeypatch, stop_after_steps)
    # A slow disk would make checkpoints rare, and the work that is done again more.
    monkeypatch.setattr("thaw.training.checkpoint.WORK_PER_COST", 0)
    # Each candidate has 6 steps, and one when its schedule is made.
    with pytest.raises(TrainingError, match=r"^tiny-0: stopped by SIGTERM in phase 1, after batch"):
        train(candidates)
    assert [CELL.checkpoint(number).exists() for number in range(2)] == [True, stop_after_steps > 7]
    assert not CELL.model.exists()
    before = taken()
    train(candidates)
    assert trained_bytes() == undisturbed
    assert read_model_card(CELL.model).compute == compute
    assert not any(CELL.checkpoint(number).exists() for number in range(2))
    if stop_after_steps > 7:
        assert taken() - before <= 2 + 6, "the first candidate was trained again"


def test_a_solved_phase_and_then_all() -> None:
    train([(SolvedPhase(), ALL)])
    history = read_history(CELL.history)
    solved = [epoch for epoch in history.epochs if epoch.phase == 0]
    trained = [epoch for epoch in history.epochs if epoch.phase == 1]
    assert [epoch.epoch for epoch in solved] == list(range(1, len(solved) + 1))
    assert {epoch.train for epoch in solved} == {"head"}
    assert {epoch.lr for epoch in solved} == {None}
    penalties = [epoch.penalty or 0 for epoch in solved]
    assert penalties == sorted(penalties, reverse=True)
    assert min(penalties) > 0
    assert [(epoch.train, epoch.epoch, epoch.penalty) for epoch in trained] == [("all", 1, None), ("all", 2, None)]
    assert history.best == min(range(len(history.epochs)), key=lambda number: history.epochs[number].val_loss)
    card = read_model_card(CELL.model)
    assert card.phases == (SolvedPhase(), ALL)
    cost = read_train_cost(CELL.cost)
    assert [(phase.train, phase.epochs) for phase in cost.phases] == [("head", len(solved)), ("all", 2)]


def test_a_solved_head_is_saved_as_its_history_says() -> None:
    train([(SolvedPhase(),)])
    classifier = load_model(CELL.model).classifier
    history = read_history(CELL.history)
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    best = history.epochs[history.best]
    expected: list[tuple[Split, float, float]] = [
        ("val", best.val_loss, best.val_accuracy),
        ("train", best.train_loss, best.train_accuracy),
    ]
    for split, loss, accuracy in expected:
        images = select_split(split, splits=splits, features=table, classes=splits.classes)
        with torch.inference_mode():
            logits = classifier.head(torch.from_numpy(images.features))
            labels = torch.from_numpy(images.labels)
            assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(loss, abs=1e-6)
            assert (logits.argmax(dim=1) == labels).double().mean().item() == accuracy


def test_a_solved_head_is_the_same_for_each_seed() -> None:
    cells = [Cell("solved", seed) for seed in (0, 1)]
    for cell in cells:
        train([(SolvedPhase(),)], cell=cell)
    heads = [load_model(cell.model).classifier.head.weight for cell in cells]
    assert torch.equal(heads[0], heads[1])


@pytest.mark.parametrize("head", [HEAD, SolvedPhase()])
def test_a_frozen_backbone_keeps_every_bit(head: AnyPhase) -> None:
    train([(head,)])
    assert backbone_tensors_moved(load_model(CELL.model).classifier, build_backbone(TINY_BACKBONE)) == 0
    assert read_model_card(CELL.model).trainable_parameters == 2 * 16 + 2


@pytest.mark.parametrize("head", [HEAD, SolvedPhase()])
def test_phase_one_of_two_stages_ends_with_the_head_of_the_frozen_variant(head: AnyPhase) -> None:
    frozen, two_stage = Cell("frozen", 3), Cell("two_stage", 3)
    train([(head,)], cell=frozen)
    # At this rate the second phase makes nothing better, so that the model is what the first one ended with.
    train([(head, Phase(train="all", epochs=1, lr=1.0))], cell=two_stage)
    assert read_model_card(two_stage.model).best.phase == 0
    assert trained_bytes(frozen)[0] == trained_bytes(two_stage)[0]
    ours, theirs = read_history(frozen.history).epochs, read_history(two_stage.history).epochs
    assert theirs[: len(ours)] == ours


def test_val_is_drawn_for_each_seed_or_for_all() -> None:
    splits = read_splits(paths.SPLITS)
    drawn = [redraw_val(splits, seed=seed).splits for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    found: dict[ValDraw, list[list[float]]] = {"fixed": [], "per_seed": []}
    for val in found:
        for seed in (0, 1):
            cell = Cell(val, seed)
            # Solved, since a solution depends on the images alone, and on nothing else that a seed draws.
            train([(SolvedPhase(),)], cell=cell, val=val)
            assert read_model_card(cell.model).val == val
            found[val].append(losses(cell))
    assert found["fixed"][0] == found["fixed"][1]
    assert found["per_seed"][0] != found["per_seed"][1]


def test_a_fraction_of_the_training_images_is_what_a_model_sees() -> None:
    train([(ALL,)])
    whole, val_losses = read_model_card(CELL.model), losses()
    train([(ALL,)], train_fraction=0.5)
    half = read_model_card(CELL.model)
    assert (whole.train_fraction, half.train_fraction) == (1.0, 0.5)
    assert half.compute.images_seen == whole.compute.images_seen / 2
    assert losses() != val_losses


def test_the_rate_of_the_head_reaches_the_head_alone() -> None:
    # SGD at a rate near 0 leaves what it trains nearly where it is.
    still = TINY_TRAINING.model_copy(update={"optimizer": SGDParams(weight_decay=0.0)})
    train([(Phase(train="all", epochs=1, lr=1e-12, head_lr=0.5),)], training=still)
    (epoch,) = read_history(CELL.history).epochs
    classifier = load_model(CELL.model).classifier
    pretrained = build_backbone(TINY_BACKBONE).module.state_dict()
    for name, tensor in classifier.backbone.state_dict().items():
        assert torch.allclose(tensor.double(), pretrained[name].double(), rtol=0, atol=1e-6), name
    assert epoch.lr is not None
    assert epoch.lr == pytest.approx(0.5)
    assert classifier.head.bias.abs().max() > 1e-3
    assert read_model_card(CELL.model).phases[0] == Phase(train="all", epochs=1, lr=1e-12, head_lr=0.5)


def test_more_blocks_than_there_are_is_one_sentence_and_writes_nothing() -> None:
    with pytest.raises(ConfigError, match=r"^variants\.tiny\.0\.train: last:9 asks for more blocks than the backbone"):
        train([(Phase(train="last:9", epochs=1, lr=0.1),)])
    assert not CELL.model.exists()


def test_what_is_written_is_the_same_in_each_run() -> None:
    candidates: list[tuple[AnyPhase, ...]] = [(SolvedPhase(), ALL), (HEAD, Phase(train="last:1", epochs=1, lr=0.01))]
    train(candidates, val="per_seed")
    first = trained_bytes()
    train(candidates, val="per_seed")
    assert trained_bytes() == first


def test_no_byte_depends_on_the_number_of_cores_or_on_omp_num_threads(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved_then_tuned = [(SolvedPhase(), ALL)]
    made = []
    for cores, threads in ((1, 1), (4, 3)):
        for module in ("compute.inference", "data.loader"):
            monkeypatch.setattr(f"thaw.{module}.count_own_cores", lambda count=cores: count)
        torch.set_num_threads(threads)  # what OMP_NUM_THREADS or the machine would have said
        embed_tiny()
        train(solved_then_tuned)
        evaluate_cell(CELL, batch_size=5)
        made.append([paths.FEATURES.read_bytes(), *trained_bytes(), CELL.predictions.read_bytes()])
    assert made[0] == made[1]
    assert read_model_card(CELL.model).threads == 1
    assert read_train_cost(CELL.cost).threads == 1


def test_uncommitted_changes_are_a_persons_and_not_dvcs(tiny_project: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    git("init")
    for path, text in {"dvc.lock": "stages: {}\n", "params.yaml": "a: 1\n", ".dvc/.gitignore": "/tmp\n"}.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
    git("add", "--all")
    git("commit", "--message", "all")
    Path("dvc.lock").write_text("stages: {clean: {}}\n")
    Path(".dvc/tmp").mkdir()
    Path(".dvc/tmp/lock").touch()
    assert describe_provenance()["git.uncommitted_changes"] == "false"
    Path("params.yaml").write_text("a: 2\n")
    assert describe_provenance()["git.uncommitted_changes"] == "true"


def test_a_machine_without_git_costs_no_training(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tiny_project))
    assert describe_provenance().keys() <= {"mlflow.source.name", "mlflow.source.type", "mlflow.user"}
