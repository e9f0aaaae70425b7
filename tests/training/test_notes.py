"""What is said of a training: each kind of note, in how many seeds, and nothing of a training that has no fault.

Run with: pytest tests/training/test_notes.py
"""

from collections.abc import Sequence

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING
from thaw.network.model_card import BestEpoch, Candidate, Compute, ModelCard
from thaw.params import AnyPhase, Phase, SolvedPhase
from thaw.training.history_csv import Epoch, History
from thaw.training.notes import Training, describe_training, note_training


def solved_epochs(*val_losses: float, converged: bool = True) -> list[Epoch]:
    return [
        Epoch(
            phase=0, train="head", epoch=number, lr=None, penalty=10.0**-number, converged=converged,
            train_loss=0.1, train_accuracy=1.0, val_loss=loss, val_accuracy=0.9,
        )
        for number, loss in enumerate(val_losses, start=1)
    ]  # fmt: skip


def epochs(*val_losses: float, phase: int = 0) -> list[Epoch]:
    return [
        Epoch(
            phase=phase, train="all", epoch=number, lr=0.1,
            train_loss=0.1, train_accuracy=1.0, val_loss=loss, val_accuracy=0.9,
        )
        for number, loss in enumerate(val_losses, start=1)
    ]  # fmt: skip


def training(history: Sequence[Epoch], *tried: tuple[tuple[AnyPhase, ...], float | None], chosen: int = 0) -> Training:
    best = min(range(len(history)), key=lambda number: history[number].val_loss)
    kept = BestEpoch(phase=history[best].phase, epoch=history[best].epoch)
    card = ModelCard(
        classes=("cat", "dog"), variant="mine", seed=4, backbone=TINY_BACKBONE, storage=TINY_STORAGE, val="per_seed",
        training=TINY_TRAINING, phases=tried[chosen][0], best=kept, compute=Compute(flops=1, images_seen=1),
        candidates=tuple(
            Candidate(phases=phases, val_loss=loss, val_accuracy=None if loss is None else 0.9, best=kept)
            for phases, loss in tried
        ),
        trainable_parameters=1,
    )  # fmt: skip
    return Training(card=card, history=History(epochs=tuple(history), best=best))


def recipe(lr: float) -> tuple[Phase]:
    return (Phase(train="all", epochs=3, lr=lr),)


SOUND = training(epochs(0.3, 0.1, 0.2), (recipe(0.1), 0.2), (recipe(0.2), 0.1), (recipe(0.3), 0.4), chosen=1)


def test_nothing_is_said_of_a_sound_training() -> None:
    assert note_training("mine", [SOUND, SOUND]) == []
    assert note_training("mine", []) == []


def test_the_last_epoch_is_told_by_seeds_and_of_one_run_without_them() -> None:
    late = training(epochs(0.3, 0.2, 0.1), (recipe(0.2), 0.1))
    assert note_training("mine", [SOUND, late, late]) == [
        "mine: the kept epoch is the last of its phase in 2 of 3 seeds; more epochs may do better."
    ]
    assert note_training("mine-4", [late]) == [
        "mine-4: the kept epoch is the last of its phase; more epochs may do better."
    ]


def test_the_edge_of_a_list_is_told_unless_all_candidates_are_one_model() -> None:
    tried = [(recipe(0.1), 0.2), (recipe(0.3), 0.1)]
    edge = training(epochs(0.3, 0.1, 0.2), *tried, chosen=1)
    assert note_training("mine", [SOUND, edge]) == [
        "mine: a candidate at the edge of its list won in 1 of 2 seeds (phase 1: lr 0.3, the highest tried); a longer "
        "list may do better."
    ]
    same = training(epochs(0.3, 0.1, 0.2), *((phases, 0.1) for phases, _ in tried))
    assert note_training("mine", [same]) == []


def test_a_discarded_phase_is_told_with_whose_model_it_is() -> None:
    phases = (SolvedPhase(), *recipe(0.1))
    lost = training([*solved_epochs(0.3, 0.1, 0.2), *epochs(0.4, phase=1)], (phases, 0.1))
    assert note_training("mine", [SOUND, lost], same_model_as={"frozen": (4,)}) == [
        "mine: phase 2 made nothing better on val and was discarded in 1 of 2 seeds; the model is that of the earlier "
        "phases; with seed 4 mine is frozen.",
        "mine: the penalty of the solved head, chosen on val, is 0.01.",
    ]


def test_a_path_that_ends_too_early_and_a_solver_that_does() -> None:
    run = training(solved_epochs(0.3, 0.2, 0.1, converged=False), ((SolvedPhase(),), 0.1))
    assert note_training("mine", [run]) == [
        "mine: the penalty of the solved head, chosen on val, is 0.001; it is at the end of its path: one beyond may "
        "do better.",
        "mine: the solver of the head ended before it was as close to the best head as is asked for: its coefficients "
        "are approximate.",
    ]


def test_a_training_in_one_line() -> None:
    assert describe_training(SOUND) == (
        "mine-4: all at 0.2 for 3 epochs at most, chosen from 3 candidates; kept epoch 2 of phase 1, val loss 0.1000, "
        "accuracy 90.0 %"
    )
    head = training(solved_epochs(0.3, 0.1, 0.2), ((SolvedPhase(),), 0.1))
    assert describe_training(head) == (
        "mine-4: head (solved); kept penalty 0.01 of phase 1, val loss 0.1000, accuracy 90.0 %"
    )
