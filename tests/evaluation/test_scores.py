"""scores.py against scikit-learn and values worked out by hand.

Run with: pytest tests/evaluation/test_scores.py
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from thaw.errors import DataError
from thaw.evaluation import scores


def draw_predictions(rng: np.random.Generator, *, n: int, classes: int) -> tuple[scores.Floats, NDArray[np.int64]]:
    """Probabilities that know something of the labels; coarse, so that there are ties."""
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    weights = rng.integers(1, 6, (n, classes)) + 3.0 * (labels[:, None] == np.arange(classes)) * rng.random((n, 1))
    rounded = np.round(weights / weights.sum(axis=1, keepdims=True), 1) + 0.01
    return rounded / rounded.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_sklearns(classes: int, seed: int) -> None:
    probabilities, labels = draw_predictions(np.random.default_rng(seed), n=60, classes=classes)
    found = scores.score_predictions(probabilities, labels)
    assert set(found) == {"accuracy", "balanced_accuracy", "log_loss", "roc_auc", "ece"}
    assert found["accuracy"] == accuracy_score(labels, probabilities.argmax(axis=1))
    predicted = probabilities.argmax(axis=1)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted), rel=1e-12)
    np.testing.assert_allclose(
        scores.recall_by_class(probabilities, labels), recall_score(labels, predicted, average=None)
    )
    assert found["log_loss"] == pytest.approx(sklearn_log_loss(labels, probabilities), rel=1e-12)
    ranked = probabilities[:, 1] if classes == 2 else probabilities
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, ranked, multi_class="ovr"), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_temperature_is_undone(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 5, (200, 4))
    found = scores.undo_temperature(softmax(logits / temperature, axis=1), temperature)
    np.testing.assert_allclose(found, softmax(logits, axis=1), rtol=1e-9, atol=1e-15)


def test_a_class_without_images_has_no_recall_and_no_say() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0], [0.6, 0.4, 0.0]])
    labels = np.array([0, 0, 0, 1])
    np.testing.assert_equal(scores.recall_by_class(probabilities, labels), [1.0, 0.0, np.nan])
    assert scores.accuracy(probabilities, labels) == 0.75
    assert scores.balanced_accuracy(probabilities, labels) == 0.5


def test_log_loss_of_a_sure_mistake_is_large_but_finite() -> None:
    assert scores.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(36.0437, abs=1e-4)


def test_roc_auc_of_a_perfect_an_inverted_and_a_constant_model() -> None:
    labels = np.array([0, 0, 1, 1])
    perfect = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    assert scores.roc_auc(perfect, labels) == 1.0
    assert scores.roc_auc(perfect[:, ::-1], labels) == 0.0
    assert scores.roc_auc(np.full((4, 2), 0.5), labels) == 0.5


def test_roc_auc_leaves_out_classes_that_no_image_has() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert scores.roc_auc(probabilities, np.array([0, 1, 0])) == 1.0


def test_roc_auc_of_one_class_alone_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match=r"all 3 images to be scored are of one class.*put images of another"):
        scores.score_predictions(np.full((3, 2), 0.5), np.zeros(3, dtype=int))


def test_ece_of_a_hand_computed_example() -> None:
    # Two bins are used: (9/15, 10/15] holds 0.65 (right) and 0.61 (wrong), (13/15, 14/15] holds 0.9 twice (both right).
    first = np.array([0.65, 0.61, 0.9, 0.9])
    probabilities = np.stack([first, 1 - first], axis=1)
    expected = 0.5 * abs(0.5 - 0.63) + 0.5 * abs(1.0 - 0.9)
    assert scores.expected_calibration_error(probabilities, np.array([0, 1, 0, 0])) == pytest.approx(expected)


def test_ece_bins_are_closed_above() -> None:
    bins = scores.reliability_bins(np.array([[0.6, 0.4], [0.61, 0.39]]), np.array([0, 1]), bins=5)
    assert [(b.confidence, b.accuracy) for b in bins] == [(0.6, 1.0), (0.61, 0.0)]


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(5, 40))
@settings(max_examples=50)
def test_scores_stay_in_range_and_forget_the_order(seed: int, classes: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = draw_predictions(rng, n=n, classes=classes)
    found = scores.score_predictions(probabilities, labels)
    assert all(0 <= found[name] <= 1 for name in ("accuracy", "roc_auc", "ece"))
    assert sum(b.share for b in scores.reliability_bins(probabilities, labels)) == pytest.approx(1)
    order = rng.permutation(n)
    assert scores.score_predictions(probabilities[order], labels[order]) == pytest.approx(found)
