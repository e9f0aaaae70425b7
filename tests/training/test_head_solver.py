"""head_solver.py against scikit-learn, and what training relies on: determinism, weights of rows, ends of the path.

Run with: pytest tests/training/test_head_solver.py
"""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from thaw.errors import DataError, DivergedError
from thaw.training.head_solver import PenaltyFit, SolvedHead, count_solver_flops, solve_head

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]
WIDTH = 40


def draw_rows(n: int, *, classes: int, seed: int, separation: float = 0.5) -> Rows:
    """Features like a network's: not negative, correlated, of unlike scales; every class is among the labels."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    shared = np.random.default_rng(99)
    centres = separation * shared.standard_normal((classes, WIDTH))
    mixing = shared.standard_normal((WIDTH, WIDTH)) / np.sqrt(np.arange(1, WIDTH + 1))[:, None]
    scales = np.geomspace(0.01, 10, WIDTH)
    features = np.maximum((centres[labels] + rng.standard_normal((n, WIDTH))) @ mixing + 1, 0) * scales
    return features.astype(np.float32), labels


def solve(train: Rows, val: Rows, *, classes: int, **options: object) -> SolvedHead:
    features, labels = val
    return solve_head(*train, val_features=features, val_labels=labels, classes=classes, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("penalty", [1.0, 0.03, 0.001])
@pytest.mark.parametrize("weighted", [False, True])
def test_coefficients_and_log_loss_equal_sklearns(classes: int, penalty: float, weighted: bool) -> None:
    train = draw_rows(300, classes=classes, seed=0)
    val = draw_rows(200, classes=classes, seed=1)
    row_weights = np.random.default_rng(2).uniform(0.2, 3, 300) if weighted else None
    solved = solve(train, val, classes=classes, row_weights=row_weights, penalties=[penalty])

    total = 300 if row_weights is None else row_weights.sum()
    scaler = StandardScaler().fit(train[0].astype(np.float64), sample_weight=row_weights)
    strength = (2 if classes == 2 else 1) / (total * penalty)
    sklearns = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
    sklearns.fit(scaler.transform(train[0].astype(np.float64)), train[1], sample_weight=row_weights)
    coefficients = np.concatenate([-sklearns.coef_, sklearns.coef_]) / 2 if classes == 2 else sklearns.coef_
    coefficients = coefficients - coefficients.mean(axis=0)
    standardised = solved.weight * scaler.scale_

    assert solved.path[0].converged
    assert np.abs(standardised - coefficients).max() < 1e-3 * np.abs(coefficients).max()
    expected = log_loss(val[1], sklearns.predict_proba(scaler.transform(val[0].astype(np.float64))))
    assert solved.path[0].val_log_loss == pytest.approx(expected, abs=1e-4)


def accuracy_of(head: nn.Linear, rows: Rows) -> float:
    return float(np.mean(head(torch.from_numpy(rows[0])).argmax(dim=1).numpy() == rows[1]))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_head_is_an_nn_linear_that_does_on_val_what_the_path_says(classes: int) -> None:
    train, val = draw_rows(300, classes=classes, seed=0), draw_rows(200, classes=classes, seed=1)
    solved = solve(train, val, classes=classes)
    head = nn.Linear(WIDTH, classes)
    head.load_state_dict({"weight": torch.from_numpy(solved.weight), "bias": torch.from_numpy(solved.bias)})
    logits = head(torch.from_numpy(val[0]))
    chosen = solved.path[solved.chosen]
    labels = torch.from_numpy(val[1])
    assert nn.functional.cross_entropy(logits, labels).item() == pytest.approx(chosen.val_log_loss, abs=1e-5)
    assert chosen.val_accuracy == pytest.approx(accuracy_of(head, val))
    assert chosen.train_accuracy == pytest.approx(accuracy_of(head, train))
    assert np.abs(solved.weight.sum(axis=0)).max() < 1e-5 * np.abs(solved.weight).max()
    assert abs(solved.bias.sum()) < 1e-5


def test_the_path_falls_and_its_best_val_log_loss_is_chosen() -> None:
    told: list[PenaltyFit] = []
    train, val = draw_rows(300, classes=3, seed=0), draw_rows(200, classes=3, seed=1)
    solved = solve(train, val, classes=3, on_progress=told.append)
    penalties = [fit.penalty for fit in solved.path]
    assert penalties == sorted(penalties, reverse=True)
    assert solved.chosen == int(np.argmin([fit.val_log_loss for fit in solved.path]))
    assert 0 < solved.chosen < len(solved.path) - 1
    assert told == list(solved.path)
    train_losses = [fit.train_loss for fit in solved.path]
    assert train_losses == sorted(train_losses, reverse=True)


def test_the_path_ends_after_two_penalties_that_are_worse() -> None:
    train, val = draw_rows(60, classes=3, seed=0), draw_rows(200, classes=3, seed=1)
    solved = solve(train, val, classes=3)
    assert len(solved.path) == solved.chosen + 3
    assert solved.path[-1].val_log_loss > solved.path[solved.chosen].val_log_loss


def test_a_warm_start_leads_where_a_cold_one_does() -> None:
    train, val = draw_rows(300, classes=3, seed=0), draw_rows(200, classes=3, seed=1)
    warm = solve(train, val, classes=3)
    chosen = warm.path[warm.chosen]
    cold = solve(train, val, classes=3, penalties=[chosen.penalty])
    assert cold.path[0].val_log_loss == pytest.approx(chosen.val_log_loss, abs=1e-4)
    np.testing.assert_allclose(cold.weight, warm.weight, atol=1e-3 * np.abs(warm.weight).max())


def test_the_path_goes_on_to_stronger_penalties_where_the_first_is_the_best() -> None:
    train, val = draw_rows(300, classes=3, seed=0), draw_rows(200, classes=3, seed=1)
    solved = solve(train, val, classes=3, penalties=[0.001, 0.0003])
    assert 0 < solved.chosen < len(solved.path) - 1
    assert solved.path[solved.chosen].penalty > 0.001
    limited = solve(train, val, classes=3, penalties=[0.001, 0.0003], limits=(0.0003, 0.001))
    assert limited.chosen == 0
    assert limited.path[limited.chosen].penalty == 0.001


def test_the_path_goes_on_to_weaker_penalties_where_the_last_is_the_best_up_to_a_limit() -> None:
    train, val = draw_rows(300, classes=3, seed=0), draw_rows(200, classes=3, seed=1)
    solved = solve(train, val, classes=3, penalties=[100.0, 10.0])
    assert 0 < solved.chosen < len(solved.path) - 1
    assert solved.path[solved.chosen].penalty < 10
    limited = solve(train, val, classes=3, penalties=[100.0, 10.0], limits=(10, 100))
    assert limited.chosen == 1
    assert [fit.penalty for fit in limited.path] == [100, 10]


def test_separable_classes_end_at_the_limit_and_stay_finite() -> None:
    train = draw_rows(100, classes=2, seed=0, separation=8.0)
    val = draw_rows(100, classes=2, seed=1, separation=8.0)
    solved = solve(train, val, classes=2, limits=(1e-5, 1.0))
    assert solved.chosen == len(solved.path) - 1
    assert solved.path[solved.chosen].penalty == pytest.approx(1e-5)
    assert all(fit.converged for fit in solved.path)
    assert solved.path[solved.chosen].val_accuracy == 1
    assert solved.path[solved.chosen].val_log_loss < 1e-3
    assert np.isfinite(solved.weight).all()


def test_views_as_rows_of_less_weight_are_repeated_rows() -> None:
    features, labels = draw_rows(200, classes=3, seed=0)
    val = draw_rows(200, classes=3, seed=1)
    once = solve((features, labels), val, classes=3)
    thrice = solve(
        (np.repeat(features, 3, axis=0), np.repeat(labels, 3)), val, classes=3, row_weights=np.full(600, 1 / 3)
    )
    np.testing.assert_allclose(thrice.weight, once.weight, atol=1e-5 * np.abs(once.weight).max())
    counts = np.random.default_rng(3).integers(1, 4, 200)
    weighted = solve((features, labels), val, classes=3, row_weights=counts.astype(np.float64))
    repeated = solve((np.repeat(features, counts, axis=0), np.repeat(labels, counts)), val, classes=3)
    np.testing.assert_allclose(weighted.weight, repeated.weight, atol=1e-5 * np.abs(once.weight).max())
    assert weighted.path[weighted.chosen].penalty == repeated.path[repeated.chosen].penalty


def test_the_same_input_gives_the_same_bytes() -> None:
    train, val = draw_rows(300, classes=4, seed=0), draw_rows(200, classes=4, seed=1)
    torch.manual_seed(1)
    first = solve(train, val, classes=4)
    torch.manual_seed(2)
    again = solve(train, val, classes=4)
    assert first.weight.tobytes() == again.weight.tobytes()
    assert first.bias.tobytes() == again.bias.tobytes()
    assert first.path == again.path


def test_the_number_of_threads_changes_no_byte_and_is_as_before() -> None:
    train, val = draw_rows(300, classes=4, seed=0), draw_rows(200, classes=4, seed=1)
    before = torch.get_num_threads()
    weights = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            weights.append(solve(train, val, classes=4).weight.tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert weights[0] == weights[1]


def test_flops_by_hand() -> None:
    fits = [
        PenaltyFit(
            penalty=penalty,
            train_loss=0.1,
            train_accuracy=1.0,
            val_log_loss=0.2,
            val_accuracy=1.0,
            iterations=iterations,
            evaluations=iterations,
            converged=True,
        )
        for penalty, iterations in ((1.0, 7), (0.1, 3))
    ]
    solved = SolvedHead(weight=np.zeros((3, 40), np.float32), bias=np.zeros(3, np.float32), path=tuple(fits), chosen=0)
    # A row's logits, and its part of the gradient, are 3 x 40 products and sums each.
    iterations, scores = 10 * 2 * 100 * 2 * 3 * 40, 2 * (100 + 20) * 2 * 3 * 40
    assert count_solver_flops(solved, rows=100, val_rows=20) == iterations + scores


def test_several_blocks_of_rows_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = draw_rows(300, classes=3, seed=0), draw_rows(200, classes=3, seed=1)
    one = solve(train, val, classes=3)
    monkeypatch.setattr("thaw.training.head_solver._BLOCK_BYTES", 8 * WIDTH * 7)
    many = solve(train, val, classes=3)
    np.testing.assert_allclose(many.weight, one.weight, atol=1e-5 * np.abs(one.weight).max())


def test_a_constant_feature_gets_no_weight_and_changes_no_other() -> None:
    (features, labels), (val_features, val_labels) = (draw_rows(n, classes=3, seed=n) for n in (300, 200))
    without = solve((features, labels), (val_features, val_labels), classes=3)
    nearly = np.full(300, 1000, np.float32)
    nearly[::2] = np.nextafter(np.float32(1000), np.float32(2000))  # rounding is no feature either
    constants = np.stack([np.zeros(300), np.full(300, 0.1), nearly], axis=1).astype(np.float32)
    elsewhere = np.full((200, 3), 5, np.float32)
    solved = solve(
        (np.hstack([features, constants]), labels), (np.hstack([val_features, elsewhere]), val_labels), classes=3
    )
    assert (solved.weight[:, WIDTH:] == 0).all()
    np.testing.assert_allclose(solved.weight[:, :WIDTH], without.weight, atol=1e-3 * np.abs(without.weight).max())


def test_nothing_but_constant_features_gives_the_shares_of_the_classes() -> None:
    labels = np.array([0, 1, 1, 1])
    ones = np.ones((4, 5), np.float32)
    solved = solve((ones, labels), (ones, labels), classes=2)
    assert (solved.weight == 0).all()
    assert solved.bias[1] - solved.bias[0] == pytest.approx(math.log(3))
    assert all(fit.converged for fit in solved.path)


def test_label_smoothing_has_the_optimum_of_torchs_loss() -> None:
    (features, labels), val = draw_rows(200, classes=3, seed=0), draw_rows(200, classes=3, seed=1)
    solved = solve((features, labels), val, classes=3, label_smoothing=0.1, penalties=[0.01], tolerance=1e-6)
    weight = torch.from_numpy(solved.weight).double().requires_grad_()
    bias = torch.from_numpy(solved.bias).double().requires_grad_()
    inputs = torch.from_numpy(features).double()
    loss = nn.functional.cross_entropy(inputs @ weight.T + bias, torch.from_numpy(labels), label_smoothing=0.1)
    penalised = loss + 0.01 / 2 * (weight * inputs.std(dim=0, correction=0)).square().sum()
    gradient, of_bias = torch.autograd.grad(penalised, [weight, bias])
    assert (gradient / inputs.std(dim=0, correction=0)).abs().max() < 1e-6
    assert of_bias.abs().max() < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_feature_that_is_not_finite_is_an_error_that_names_the_row(value: float, split: str) -> None:
    train, val = draw_rows(30, classes=2, seed=0), draw_rows(20, classes=2, seed=1)
    (train if split == "training" else val)[0][7, 3] = value
    with pytest.raises(DivergedError, match=rf"features of 1 of \d+ {split} rows are not finite, of row 7"):
        solve(train, val, classes=2)


def test_a_class_without_a_training_row_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match="class 2 of 0 to 2 has no training image"):
        solve(draw_rows(30, classes=2, seed=0), draw_rows(30, classes=2, seed=1), classes=3)


def test_validation_rows_can_be_weighted_too() -> None:
    train, val = draw_rows(120, classes=3, seed=0), draw_rows(90, classes=3, seed=1)
    weights = np.where(val[1] == 0, 5.0, 1.0)
    plain = solve(train, val, classes=3, penalties=[0.01])
    weighted = solve(train, val, classes=3, penalties=[0.01], val_row_weights=weights)
    assert np.array_equal(plain.weight, weighted.weight)
    logits = val[0].astype(np.float64) @ weighted.weight.T.astype(np.float64) + weighted.bias
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = log_loss(val[1], probabilities, sample_weight=weights)
    assert weighted.path[0].val_log_loss == pytest.approx(expected, rel=1e-5)
    assert weighted.path[0].val_accuracy == plain.path[0].val_accuracy


def test_balanced_weights_are_sklearns_balanced_regression() -> None:
    features, labels = draw_rows(300, classes=3, seed=0)
    rows = np.flatnonzero((labels == 0) | (np.arange(300) % 10 == 0))  # two rare classes
    features, labels = features[rows], labels[rows]
    row_weights = compute_sample_weight("balanced", labels)
    solved = solve((features, labels), (features, labels), classes=3, row_weights=row_weights, penalties=[0.01])
    scaler = StandardScaler().fit(features.astype(np.float64), sample_weight=row_weights)
    sklearns = LogisticRegression(C=1 / (len(labels) * 0.01), tol=1e-8, max_iter=10_000, class_weight="balanced")
    sklearns.fit(scaler.transform(features.astype(np.float64)), labels)
    coefficients = sklearns.coef_ - sklearns.coef_.mean(axis=0)
    assert np.abs(solved.weight * scaler.scale_ - coefficients).max() < 1e-3 * np.abs(coefficients).max()
