"""metrics.py against sklearn, scipy and brute force; the coverage of the intervals by simulation.

Run with: pytest tests/test_metrics.py
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from thaw import metrics
from thaw.errors import DataError


def draw_predictions(rng: np.random.Generator, *, n: int, classes: int) -> tuple[metrics.Floats, NDArray[np.int64]]:
    """Probabilities that know something of the labels; coarse, so that there are ties."""
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    weights = rng.integers(1, 6, (n, classes)) + 3.0 * (labels[:, None] == np.arange(classes)) * rng.random((n, 1))
    rounded = np.round(weights / weights.sum(axis=1, keepdims=True), 1) + 0.01
    return rounded / rounded.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_sklearns(classes: int, seed: int) -> None:
    probabilities, labels = draw_predictions(np.random.default_rng(seed), n=60, classes=classes)
    scores = metrics.score_predictions(probabilities, labels)
    assert set(scores) == {"accuracy", "log_loss", "roc_auc", "ece"}
    assert scores["accuracy"] == accuracy_score(labels, probabilities.argmax(axis=1))
    assert scores["log_loss"] == pytest.approx(sklearn_log_loss(labels, probabilities), rel=1e-12)
    ranked = probabilities[:, 1] if classes == 2 else probabilities
    assert scores["roc_auc"] == pytest.approx(roc_auc_score(labels, ranked, multi_class="ovr"), rel=1e-12)


def test_log_loss_of_a_sure_mistake_is_large_but_finite() -> None:
    assert metrics.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(36.0437, abs=1e-4)


def test_roc_auc_of_a_perfect_an_inverted_and_a_constant_model() -> None:
    labels = np.array([0, 0, 1, 1])
    perfect = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    assert metrics.roc_auc(perfect, labels) == 1.0
    assert metrics.roc_auc(perfect[:, ::-1], labels) == 0.0
    assert metrics.roc_auc(np.full((4, 2), 0.5), labels) == 0.5


def test_roc_auc_leaves_out_classes_that_no_picture_has() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert metrics.roc_auc(probabilities, np.array([0, 1, 0])) == 1.0


def test_roc_auc_of_one_class_alone_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match=r"all 3 pictures to be scored are of one class.*put pictures of another"):
        metrics.score_predictions(np.full((3, 2), 0.5), np.zeros(3, dtype=int))


def test_ece_of_a_hand_computed_example() -> None:
    # Two bins are used: (9/15, 10/15] holds 0.65 (right) and 0.61 (wrong), (13/15, 14/15] holds 0.9 twice (both right).
    first = np.array([0.65, 0.61, 0.9, 0.9])
    probabilities = np.stack([first, 1 - first], axis=1)
    expected = 0.5 * abs(0.5 - 0.63) + 0.5 * abs(1.0 - 0.9)
    assert metrics.expected_calibration_error(probabilities, np.array([0, 1, 0, 0])) == pytest.approx(expected)


def test_ece_bins_are_closed_above() -> None:
    bins = metrics.reliability_bins(np.array([[0.6, 0.4], [0.61, 0.39]]), np.array([0, 1]), bins=5)
    assert [(b.confidence, b.accuracy) for b in bins] == [(0.6, 1.0), (0.61, 0.0)]


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(5, 40))
@settings(max_examples=50, deadline=None)
def test_scores_stay_in_range_and_forget_the_order(seed: int, classes: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = draw_predictions(rng, n=n, classes=classes)
    scores = metrics.score_predictions(probabilities, labels)
    assert all(0 <= scores[name] <= 1 for name in ("accuracy", "roc_auc", "ece"))
    assert sum(b.share for b in metrics.reliability_bins(probabilities, labels)) == pytest.approx(1)
    order = rng.permutation(n)
    assert metrics.score_predictions(probabilities[order], labels[order]) == pytest.approx(scores)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (138, 140), (2475, 2500)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_interval_equals_scipys(successes: int, n: int, confidence: float) -> None:
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = metrics.wilson_interval(successes, n, confidence=confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 1000), st.floats(0, 1))
def test_wilson_interval_holds_the_share_and_mirrors(n: int, share: float) -> None:
    low, high = metrics.wilson_interval(share * n, n)
    assert 0 <= low <= share * n / n <= high <= 1
    assert low < high
    assert metrics.wilson_interval(n - share * n, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_wilson_interval_covers_the_truth_as_often_as_it_says() -> None:
    n, truth = 140, 0.97
    rng = np.random.default_rng(0)
    intervals = [metrics.wilson_interval(int(k), n) for k in rng.binomial(n, truth, 4000)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.93 <= covered <= 0.98


def right(*rows: str) -> NDArray[np.bool_]:
    """`right("110", "100")`: two seeds on three pictures."""
    return np.array([[c == "1" for c in row] for row in rows])


def test_one_seed_gives_the_exact_mcnemar_test() -> None:
    a, b = right("1111111111110"), right("1111000000001")
    found = metrics.compare_paired(a, b)
    assert found.units_differing == 9
    assert found.difference == pytest.approx(7 / 13)
    assert found.p_value == pytest.approx(binomtest(1, 9).pvalue, rel=1e-12)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
def test_sign_flips_equal_brute_force(gains: list[int]) -> None:
    patterns = itertools.product([-1, 1], repeat=len(gains))
    sums = [sum(s * g for s, g in zip(signs, gains, strict=True)) for signs in patterns]
    expected = np.mean([abs(s) >= abs(sum(gains)) for s in sums])
    assert metrics.sign_flip_p_value(np.array(gains)) == pytest.approx(expected, rel=1e-12)


def test_sign_flips_of_very_many_pictures_agree_with_scipy() -> None:
    gains = np.array([1] * 1100 + [-1] * 1000)
    assert metrics.sign_flip_p_value(gains) == pytest.approx(binomtest(1000, 2100).pvalue, rel=1e-9)


def test_models_that_never_differ_are_alike_but_not_for_certain() -> None:
    a = right("1" * 50 + "0" * 3)
    found = metrics.compare_paired(a, a)
    assert (found.difference, found.p_value, found.units_differing) == (0, 1, 0)
    low, high = found.interval
    assert low == pytest.approx(-high)
    assert high == pytest.approx(1.96 / 55, rel=1e-3)


def test_the_interval_is_agresti_and_mins() -> None:
    # 12 pictures: a alone right on 6, b alone on 1. With two made-up pictures: n = 14, cells 6.5 and 1.5.
    a, b = right("111111" + "0" + "11000"), right("000000" + "1" + "11000")
    n, b_cell, c_cell = 14, 6.5, 1.5
    half = 1.959964 * np.sqrt(b_cell + c_cell - (b_cell - c_cell) ** 2 / n) / n
    expected = ((b_cell - c_cell) / n - half, (b_cell - c_cell) / n + half)
    assert metrics.compare_paired(a, b).interval == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("only_a", "only_b"), [(0.01, 0.01), (0.03, 0.01), (0.10, 0.05)])
def test_the_interval_covers_the_truth_as_often_as_it_says(only_a: float, only_b: float) -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(1500):
        cell = rng.random(140)
        b = (cell >= only_a) & (cell < 0.9)
        a = (cell < only_a) | ((cell >= only_a + only_b) & (cell < 0.9))
        low, high = metrics.compare_paired(a[None], b[None]).interval
        covered.append(low <= only_a - only_b <= high)
    assert 0.93 <= np.mean(covered) <= 1.0


def test_the_false_alarms_of_three_seeds_stay_under_the_level() -> None:
    rng = np.random.default_rng(2)
    alarms = []
    for _ in range(400):
        hardness = rng.beta(4, 0.5, 100)  # the same for both models: a hard picture is hard for all seeds
        a, b = (rng.random((3, 100)) < hardness for _ in range(2))
        alarms.append(metrics.compare_paired(a, b).p_value < 0.05)
    assert np.mean(alarms) <= 0.075


def test_copies_of_a_picture_count_as_one() -> None:
    a, b = right("1" * 8), right("0" * 8)
    assert metrics.compare_paired(a, b).p_value == 2 / 2**8
    together = metrics.compare_paired(a, b, groups=np.array([7, 7, 7, 7, 7, 7, 7, 9]))
    assert (together.p_value, together.units_differing, together.difference) == (2 / 2**2, 2, 1)


def test_the_unit_is_the_picture_and_not_the_prediction() -> None:
    once = metrics.compare_paired(right("11110"), right("00001"))
    thrice = metrics.compare_paired(right(*["11110"] * 3), right(*["00001"] * 3))
    assert thrice == once


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 30))
def test_swapping_the_two_models_swaps_the_sign(seed: int, seeds: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, seeds, n)) < 0.7
    groups = rng.integers(0, n, n)
    there, back = (metrics.compare_paired(*pair, groups=groups) for pair in ((a, b), (b, a)))
    assert back.difference == -there.difference
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
    assert back.p_value == there.p_value
    assert 0 < there.p_value <= 1
    assert there.interval[0] < there.interval[1]


def test_holm_of_a_worked_example() -> None:
    assert metrics.holm_correction([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm_correction([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = metrics.holm_correction(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))
