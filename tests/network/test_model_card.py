"""model.json comes back as it was written, and what is missing or damaged is one sentence.

Run with `pytest tests/network/test_model_card.py`.
"""

from pathlib import Path

import pytest

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING
from thaw.errors import DataError
from thaw.network.model_card import (
    NAME,
    BestEpoch,
    Candidate,
    Compute,
    ModelCard,
    read_model_card,
    write_model_card,
)
from thaw.params import AnyPhase, Phase, SGDParams, SolvedPhase
from thaw.utils.atomic import read_json, write_json

HEAD = Phase(train="head", epochs=5, lr=0.01)
ALL = Phase(train="all", epochs=3, lr=0.1 + 0.2, head_lr=0.001)


def card(*recipes: tuple[AnyPhase, ...]) -> ModelCard:
    """Of a model that was chosen among `recipes`; the last one did best."""
    candidates = tuple(
        Candidate(phases=phases, val_loss=1 / 3, val_accuracy=0.75, best=BestEpoch(phase=len(phases) - 1, epoch=2))
        for phases in recipes
    )
    return ModelCard(
        classes=("Cat", "Köter"),
        variant="two_stage",
        seed=7,
        backbone=TINY_BACKBONE,
        storage=TINY_STORAGE,
        val="per_seed",
        training=TINY_TRAINING,
        phases=candidates[-1].phases,
        best=BestEpoch(phase=len(recipes[-1]) - 1, epoch=2),
        candidates=candidates,
        compute=Compute(flops=3 * 10**15, images_seen=36),
        trainable_parameters=1_000,
    )


@pytest.mark.parametrize(
    "recipes",
    [
        [(SolvedPhase(),)],
        [(HEAD,)],
        [(SolvedPhase(), ALL)],
        [(HEAD, ALL), (HEAD, ALL.model_copy(update={"lr": 0.5}))],
        [(HEAD, Phase(train="last:2", epochs=1, lr=1.0), ALL)],
    ],
    ids=["solved", "head", "solved, then all", "two candidates", "three phases"],
)
def test_a_card_comes_back_with_the_kinds_of_its_phases(tmp_path: Path, recipes: list[tuple[AnyPhase, ...]]) -> None:
    written = card(*recipes)
    write_model_card(tmp_path, written)
    read = read_model_card(tmp_path)
    assert read == written
    assert [type(phase) for phase in read.phases] == [type(phase) for phase in recipes[-1]]


def test_the_optimiser_comes_back(tmp_path: Path) -> None:
    training = TINY_TRAINING.model_copy(update={"optimizer": SGDParams(momentum=0.5)})
    write_model_card(tmp_path, card((HEAD,)).model_copy(update={"training": training}))
    assert read_model_card(tmp_path).training == training


def test_a_card_without_a_temperature_leaves_probabilities_as_they_are(tmp_path: Path) -> None:
    write_model_card(tmp_path, card((HEAD,)).model_copy(update={"temperature": 2.5}))
    assert read_model_card(tmp_path).temperature == 2.5
    values = read_json(tmp_path / NAME)
    del values["temperature"]
    write_json(tmp_path / NAME, values)
    assert read_model_card(tmp_path).temperature == 1.0


def test_a_missing_card_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.json does not exist: run `dvc repro`, which runs the stage train"):
        read_model_card(tmp_path)


def test_a_card_of_an_earlier_release_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"classes": ["Cat", "Dog"]}')
    with pytest.raises(DataError, match=r"model\.json: variant: Field required; delete it and run `dvc repro`"):
        read_model_card(tmp_path)
