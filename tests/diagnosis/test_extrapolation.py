"""Twice the images: known laws are found, intervals hold, and too few points say nothing.

Run with: pytest tests/diagnosis/test_extrapolation.py
"""

import sys

import numpy as np
import pytest

from conftest import ROOT
from thaw.diagnosis.extrapolation import EXPONENTS, extrapolate_gain, fit_power_law
from thaw.diagnosis.learning_curve_csv import CurvePoint

sys.path.append(str(ROOT / "tools"))

from simulate_learning_curve import simulate

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def draw_curve(
    rng: np.random.Generator | None, *, floor: float, scale: float, exponent: float, images: int, tested: int
) -> list[CurvePoint]:
    """Five folds under a law; without a generator, exactly as it expects."""
    points = []
    for fold in range(5):
        for share in SHARES:
            error = min(0.9, floor + scale * (images * share) ** -exponent)
            wrong = round(error * tested) if rng is None else int(rng.binomial(tested, error))
            points.append(
                CurvePoint(fold=fold, share=share, images=round(images * share), tested=tested, correct=tested - wrong)
            )
    return points


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_a_law_without_noise_is_found(exponent: float) -> None:
    sizes = 1000 * np.array(SHARES[2:])
    law = fit_power_law(sizes, 0.04 + 0.8 * sizes**-exponent)
    # Exponents that fit to a tenth of a point are told apart by how near 1/2 they are.
    assert law.exponent in EXPONENTS
    np.testing.assert_allclose(law.error(sizes), 0.04 + 0.8 * sizes**-exponent, atol=0.006)
    points = draw_curve(None, floor=0.04, scale=0.8, exponent=exponent, images=1000, tested=100_000)
    gain = extrapolate_gain(points, images=1000)
    assert gain is not None
    expected = 0.8 * (1000**-exponent - 2000**-exponent)
    assert gain.difference == pytest.approx(expected, rel=0.3, abs=0.001)


@pytest.mark.parametrize(("scale", "exponent"), [(0.0, 0.5), (1.0, 0.5), (0.6, 0.25), (4.0, 0.8)])
def test_the_interval_holds_and_a_flat_curve_shows_no_gain(scale: float, exponent: float) -> None:
    rng = np.random.default_rng(0)
    covered, visible, draws = 0, 0, 150
    true = scale * (800**-exponent - 1600**-exponent)
    for _ in range(draws):
        gain = extrapolate_gain(
            draw_curve(rng, floor=0.05, scale=scale, exponent=exponent, images=800, tested=400), images=800
        )
        assert gain is not None
        assert gain.difference >= 0
        covered += gain.interval[0] <= true <= gain.interval[1]
        visible += gain.interval[0] > 0
    assert covered / draws > 0.9
    if scale == 0:
        assert visible / draws < 0.025


def test_where_the_law_is_steep_the_gain_is_visible() -> None:
    rng = np.random.default_rng(1)
    points = draw_curve(rng, floor=0.05, scale=2.0, exponent=0.5, images=1000, tested=5000)
    gain = extrapolate_gain(points, images=1000)
    assert gain is not None
    assert 0 < gain.interval[0] < 2 * (1000**-0.5 - 2000**-0.5) < gain.interval[1]


def test_too_few_points_or_folds_say_nothing() -> None:
    points = draw_curve(None, floor=0.05, scale=1.0, exponent=0.5, images=1000, tested=1000)
    assert extrapolate_gain([point for point in points if point.share == 1], images=1000) is None
    assert extrapolate_gain([point for point in points if point.fold < 2], images=1000) is None
    assert extrapolate_gain([point for point in points if point.share < 0.05], images=1000) is None


def test_on_whole_data_sets_it_says_what_twice_the_images_bring() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1200)
    features = (rng.normal(0, 1, (1200, 40)) + 0.2 * (2 * labels[:, None] - 1)).astype(np.float32)
    row = simulate(features, labels, images=100, draws=12)
    assert row["true_gain_points"] > 1
    assert row["coverage"] >= 0.8
    assert row["predicted_gain_points"] == pytest.approx(row["true_gain_points"], rel=0.5)
