"""Temperature scaling finds the temperature that made the labels, stays within bounds, and is the model's.

Run with: pytest tests/training/test_temperature.py
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.data.features import LabelledImages, read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.data.tensors import normalise
from thaw.data.transforms import centre_view
from thaw.evaluation.scores import log_loss
from thaw.network.classifier import load_model
from thaw.network.model_card import read_model_card
from thaw.params import AnyPhase, Phase, SolvedPhase
from thaw.paths import Cell
from thaw.training.temperature import LIMITS, fit_temperature
from thaw.training.train import train_cell

CELL = Cell("tiny", 0)


def draw_logits(
    rng: np.random.Generator, *, count: int, classes: int, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits, and labels as a model says that has divided them by `temperature`."""
    logits = rng.normal(0, 4, (count, classes))
    cumulated = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (rng.random((count, 1)) > cumulated[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(classes: int, temperature: float) -> None:
    logits, labels = draw_logits(np.random.default_rng(0), count=20_000, classes=classes, temperature=temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_lower_log_loss() -> None:
    logits, labels = draw_logits(np.random.default_rng(1), count=20_000, classes=3, temperature=2.0)
    found = fit_temperature(logits, labels)
    # The smoothing is worth about one image, of which there are many here.
    losses = {t: log_loss(softmax(logits / t, axis=1), labels) for t in found * np.linspace(0.8, 1.25, 40)}
    assert log_loss(softmax(logits / found, axis=1), labels) < min(losses.values()) + 1e-5


def test_a_few_images_that_are_all_right_do_not_make_a_model_certain() -> None:
    rng = np.random.default_rng(2)
    logits, labels = draw_logits(rng, count=2_000, classes=2, temperature=1.0)
    right = np.flatnonzero(logits.argmax(axis=1) == labels)[:20]
    few = fit_temperature(logits[right], labels[right])
    assert LIMITS[0] < few < 1.5
    certain = log_loss(softmax(logits / LIMITS[0], axis=1), labels)
    assert log_loss(softmax(logits / few, axis=1), labels) < certain / 5


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_the_limits_hold(scale: float) -> None:
    logits, labels = draw_logits(np.random.default_rng(3), count=50, classes=3, temperature=1.0)
    assert fit_temperature(-scale * logits, labels) == LIMITS[1]
    assert LIMITS[0] <= fit_temperature(scale * logits, labels) <= LIMITS[1]
    assert fit_temperature(np.zeros((5, 3)), np.array([0, 1, 2, 0, 1])) in LIMITS


def logits_of(val: LabelledImages, *, from_images: bool) -> NDArray[np.float64]:
    """What the saved model says of the validation images, computed here in one batch."""
    classifier = load_model(CELL.model).classifier
    with torch.inference_mode(), ImageZip(paths.IMAGES) as images:
        if not from_images:
            logits = classifier.head(torch.from_numpy(val.features))
        else:
            views = [centre_view(images.read_image(path), classifier.preprocessing) for path in val.paths]
            logits = classifier(normalise(np.stack(views), classifier.preprocessing, torch.device("cpu")))
    found: NDArray[np.float64] = logits.double().numpy()
    return found


@pytest.mark.usefixtures("tiny_project")
@pytest.mark.parametrize(
    ("phases", "from_images"),
    [
        ((SolvedPhase(),), False),
        ((Phase(train="head", epochs=2, lr=0.01),), False),
        ((Phase(train="all", epochs=2, lr=0.01),), True),
        # At this rate the second phase makes nothing better and is discarded.
        ((SolvedPhase(), Phase(train="all", epochs=1, lr=1.0)), False),
    ],
    ids=["solved", "head", "all", "discarded"],
)
def test_a_trained_model_has_the_temperature_of_its_validation_split(
    phases: tuple[AnyPhase, ...], from_images: bool
) -> None:
    embed_tiny()
    train_cell(
        CELL, candidates=[phases], backbone=TINY_BACKBONE, storage=TINY_STORAGE, val="fixed", training=TINY_TRAINING
    )
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    val = select_split("val", splits=splits, features=table, classes=splits.classes)
    expected = fit_temperature(logits_of(val, from_images=from_images), val.labels)
    assert read_model_card(CELL.model).temperature == pytest.approx(expected, rel=1e-3)
    assert (Path(CELL.model) / "model.json").read_text().count("temperature") == 1
