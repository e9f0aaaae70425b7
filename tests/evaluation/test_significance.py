"""Intervals and tests of recipes: against closed forms and scipy, their agreement, and their error rate by simulation.

Run with: pytest tests/evaluation/test_significance.py
"""

import itertools
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad
from scipy.stats import binomtest

from conftest import ROOT
from thaw.evaluation.significance import (
    MIN_SEEDS,
    RecipeComparison,
    RecipePair,
    _Variance,
    compare_recipes,
    wilson_interval,
)

sys.path.append(str(ROOT / "tools"))

from simulate_verdict import draw_correct, simulate

Correct = Mapping[str, NDArray[np.bool_]]


def compare(correct: Correct, *, groups: NDArray[np.int64] | None = None, margin: float = 0.01) -> RecipeComparison:
    images = next(iter(correct.values())).shape[1]
    return compare_recipes(correct, groups=np.arange(images) if groups is None else groups, margin=margin)


def only_pair(correct: Correct, *, groups: NDArray[np.int64] | None = None, margin: float = 0.01) -> RecipePair:
    (pair,) = compare(correct, groups=groups, margin=margin).pairs
    return pair


def drawn(seed: int, *, n: int = 300, seeds: int = 5, worse: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Correct:
    rng = np.random.default_rng(seed)
    return draw_correct(rng, n=n, seeds=seeds, seed_sd_points=(0.5, 0.5, 0.5), worse=worse)


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 5]), st.sampled_from([0.0, 0.02, 0.1]))
@settings(max_examples=40)
def test_intervals_p_values_and_outcomes_agree(seed: int, seeds: int, gap: float) -> None:
    comparison = compare(drawn(seed, seeds=seeds, worse=(gap, 0.0, 0.0)), margin=0.05)
    assert comparison.speaks_of_recipes == (seeds >= MIN_SEEDS)
    for pair in comparison.pairs:
        low, high = pair.interval
        leaves_out_0 = low > 0 or high < 0
        assert low <= pair.difference <= high
        assert (pair.p_value < 0.05) == leaves_out_0
        if pair.outcome == "better":
            assert leaves_out_0
        if pair.outcome == "equivalent":
            assert -0.05 <= low <= high <= 0.05
        if not comparison.speaks_of_recipes:
            assert pair.outcome == "inconclusive"
        if pair.outcome != "inconclusive" or not comparison.speaks_of_recipes:
            assert pair.seeds_needed is None
            assert pair.images_needed is None
        assert pair.detectable > high - pair.difference or high == 1.0


@pytest.mark.parametrize(("seeds", "n"), [(3, 40), (5, 300)])
def test_it_is_the_crossed_analysis_of_variance_of_textbooks(seeds: int, n: int) -> None:
    # Two-way crossed random effects without replication: Searle, Casella and McCulloch (1992), table 4.11; the variance
    # of the seeds' mean squares is integrated over.
    correct = {name: drawn(6, n=n, seeds=seeds, worse=(0.05, 0.0, 0.0))[name] for name in ("r0", "r1")}
    y = correct["r0"].astype(float) - correct["r1"]  # (S, N)
    of_seeds, of_images, mean = y.mean(axis=1), y.mean(axis=0), y.mean()
    ms_seeds = n * np.sum((of_seeds - mean) ** 2) / (seeds - 1)
    ms_rest = np.sum((y - of_seeds[:, None] - of_images + mean) ** 2) / ((seeds - 1) * (n - 1))
    invented = 0.5 * (1 - mean) ** 2 + 0.5 * (1 + mean) ** 2 + mean**2  # two images: Agresti and Min (2005)
    image = (n / (n - 1) * np.sum((of_images - mean) ** 2) + invented) / (n + 2) ** 2

    def tail(chi_squared: float) -> float:
        seed = max(0.0, ms_seeds * (seeds - 1) / chi_squared - ms_rest) / n
        return float(
            2 * stats.norm.sf(abs(mean) / np.sqrt(image + seed / seeds)) * stats.chi2.pdf(chi_squared, seeds - 1)
        )

    expected = quad(tail, 0, 80, limit=500, points=[ms_seeds * (seeds - 1) / ms_rest])[0]
    assert only_pair(correct).p_value == pytest.approx(expected, rel=1e-3)
    own = correct["r0"].astype(float)
    rest = own - own.mean(axis=1, keepdims=True) - own.mean(axis=0) + own.mean()
    component = own.mean(axis=1).var(ddof=1) - np.sum(rest**2) / ((seeds - 1) * (n - 1)) / n
    seed_sd = compare(correct).variants["r0"].seed_sd
    assert seed_sd == pytest.approx(np.sqrt(max(0.0, component)), abs=1e-12)


def test_without_noise_of_images_it_is_a_paired_t_test_to_the_variance_pooled_and_generalised() -> None:
    # Each seed's model is right about the same share of very many images: what is left is the seeds.
    images, gains = 200_000, np.array([0.01, 0.03, 0.02, 0.05, 0.015])
    place = (np.arange(images) + 0.5) / images
    b = np.stack([place < 0.5 for _ in gains])
    a = np.stack([(place < 0.5) | (place > 1 - gain) for gain in gains])
    pair = only_pair({"a": a, "b": b})
    expected = stats.ttest_1samp(gains, 0).pvalue
    # The images' own share is known but for their own, small, variance.
    assert pair.difference == pytest.approx(gains.mean())
    assert pair.p_value == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("df", [1, 2, 4, 8])
@pytest.mark.parametrize("t", [0.5, 3.0, 10.0, 100.0])
def test_where_only_seeds_vary_it_is_students_distribution_far_out_too(df: int, t: float) -> None:
    variance = _Variance(image=1e-12, interaction=0.0, seed_means=1.0, seeds=3, units=100, df=df)
    assert variance.tail(t / np.sqrt(3)) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-3, abs=1e-15)
    assert variance.half_width(0.001) * np.sqrt(3) == pytest.approx(stats.t.isf(0.0005, df), rel=1e-3)


def test_with_one_seed_it_is_the_interval_of_agresti_and_min_about_the_difference() -> None:
    n, only_a, only_b = 400, 30, 12
    a = np.ones((1, n), bool)
    b = np.ones((1, n), bool)
    b[0, :only_a] = False
    a[0, only_a : only_a + only_b] = False
    pair = only_pair({"a": a, "b": b})
    difference = (only_a - only_b) / n
    added = 0.5 * (1 - difference) ** 2 + 0.5 * (1 + difference) ** 2 + difference**2
    squares = only_a * (1 - difference) ** 2 + only_b * (1 + difference) ** 2 + (n - only_a - only_b) * difference**2
    half = stats.norm.ppf(0.975) * np.sqrt(squares * n / (n - 1) + added) / (n + 2)
    assert pair.interval == pytest.approx((difference - half, difference + half))
    assert pair.outcome == "inconclusive"
    assert pair.seeds_needed is None


def test_the_order_of_images_seeds_and_recipes_does_not_matter() -> None:
    correct = drawn(1)
    rng = np.random.default_rng(0)
    images, seeds = rng.permutation(300), rng.permutation(5)
    before = compare(correct)
    after = compare({name: array[seeds][:, images] for name, array in reversed(list(correct.items()))})
    assert list(after.variants) == list(reversed(before.variants))
    for name, known in before.variants.items():
        assert after.variants[name].interval == pytest.approx(known.interval)
    of = {frozenset((pair.a, pair.b)): pair for pair in after.pairs}
    for pair in before.pairs:
        other = of[frozenset((pair.a, pair.b))]
        assert other.p_value == pytest.approx(pair.p_value)
        assert other.interval == pytest.approx((-pair.interval[1], -pair.interval[0]))


def test_copies_of_an_image_are_one_unit() -> None:
    correct = drawn(2, n=200)
    once = compare(correct)
    groups = np.repeat(np.arange(200), 5)
    five = {name: np.repeat(array, 5, axis=1) for name, array in correct.items()}
    grouped, alone = compare(five, groups=groups), compare(five)
    for pair, same, apart in zip(once.pairs, grouped.pairs, alone.pairs, strict=True):
        assert same.difference == pytest.approx(pair.difference)
        assert same.interval == pytest.approx(pair.interval)
        assert apart.interval[1] - apart.interval[0] < same.interval[1] - same.interval[0]
    for name, known in once.variants.items():
        assert grouped.variants[name].interval == pytest.approx(known.interval)


def test_versions_of_images_that_are_all_right_make_no_one_surer() -> None:
    # All that is known then comes from the invented units: they have to weigh as much as the others.
    right = {name: np.ones((3, 122), bool) for name in "ab"}
    fifteen = {name: np.repeat(array, 15, axis=1) for name, array in right.items()}
    once, grouped = compare(right), compare(fifteen, groups=np.repeat(np.arange(122), 15))
    assert grouped.pairs[0].interval == pytest.approx(once.pairs[0].interval)
    assert grouped.pairs[0].outcome == once.pairs[0].outcome == "inconclusive"
    assert grouped.variants["a"].interval == pytest.approx(once.variants["a"].interval)


def test_recipes_that_are_always_right_are_alike_but_not_for_certain() -> None:
    correct = {name: np.ones((5, 50), bool) for name in "ab"}
    comparison = compare(correct)
    (pair,) = comparison.pairs
    assert pair.difference == 0
    assert pair.interval[0] < 0 < pair.interval[1]
    assert pair.p_value == 1
    low, high = comparison.variants["a"].interval
    assert high == 1
    assert 0.85 < low < 0.99
    assert comparison.variants["a"].seed_sd == 0


def test_many_images_and_seeds_tell_equivalent_from_better() -> None:
    alike = compare(drawn(3, n=20_000, seeds=10), margin=0.02)
    assert {pair.outcome for pair in alike.pairs} == {"equivalent"}
    apart = compare(drawn(3, n=20_000, seeds=10, worse=(0.05, 0.0, 0.0)), margin=0.02)
    assert [pair.outcome for pair in apart.pairs] == ["better", "better", "equivalent"]
    assert all(pair.difference < 0 for pair in apart.pairs[:2])


def test_what_is_said_to_settle_a_pair_does_so() -> None:
    correct = drawn(4, n=613, seeds=10, worse=(0.02, 0.0, 0.0))
    pair = compare(correct).pairs[0]
    assert pair.outcome == "inconclusive"
    assert pair.seeds_needed is None or pair.seeds_needed > 10
    assert pair.images_needed is not None
    assert pair.images_needed > 613
    # As many new images of the same kind, on which the difference is as it was found: 80 % are settled, and not 50 %.
    worse = (-pair.difference, 0.0, 0.0)
    settled = [
        compare(drawn(seed, n=pair.images_needed, seeds=10, worse=worse)).pairs[0].outcome == "better"
        for seed in range(60)
    ]
    assert np.mean(settled) == pytest.approx(0.8, abs=0.15)


def test_what_is_said_to_make_a_pair_equivalent_does_so() -> None:
    for seed in range(20):
        pair = compare(drawn(seed, n=613, seeds=10), margin=0.02).pairs[0]
        if pair.outcome == "inconclusive" and abs(pair.difference) < 0.003:
            break
    assert pair.images_needed is not None
    settled = [
        compare(drawn(seed, n=pair.images_needed, seeds=10), margin=0.02).pairs[0].outcome == "equivalent"
        for seed in range(60)
    ]
    assert np.mean(settled) >= 0.65


@pytest.mark.parametrize("copies", [1, 5])
def test_fewer_than_20_units_settle_nothing_and_only_more_of_them_would(copies: int) -> None:
    correct = {"a": np.ones((3, 12), bool), "b": np.tile(np.arange(12) < 3, (3, 1))}
    pair = only_pair(
        {name: np.repeat(array, copies, axis=1) for name, array in correct.items()},
        groups=np.repeat(np.arange(12), copies),
    )
    assert pair.p_value < 0.05
    assert (pair.outcome, pair.units, pair.seeds_needed) == ("inconclusive", 12, None)
    assert pair.images_needed == 20 * copies
    assert pair.images_deciding is None


@pytest.mark.parametrize("ahead", [4, 6, 7, 8])
def test_so_many_images_answered_otherwise_change_the_outcome(ahead: int) -> None:
    # Of 120 images `a` alone is right on `ahead`, with all seeds.
    def pair_of(ahead: int) -> RecipePair:
        right = np.arange(120) < 100
        return only_pair({"a": np.tile(right, (3, 1)), "b": np.tile(right & (np.arange(120) >= ahead), (3, 1))})

    pair = pair_of(ahead)
    assert pair.images_deciding is not None
    step = -1 if pair.outcome == "better" else 1
    # One more or less, since the interval changes a little with each.
    near, far = max(0, pair.images_deciding - 2), pair.images_deciding + 1
    assert pair_of(ahead + step * near).outcome == pair.outcome
    assert pair_of(ahead + step * far).outcome != pair.outcome


def test_an_equivalent_pair_is_changed_by_the_images_up_to_its_margin() -> None:
    same = np.ones((3, 1000), bool)
    pair = only_pair({"a": same, "b": same}, margin=0.05)
    assert pair.outcome == "equivalent"
    assert pair.images_deciding is not None
    assert pair.images_deciding == pytest.approx((0.05 - pair.interval[1]) * 1000, abs=1)


def test_a_single_recipe_has_an_interval_and_no_pair() -> None:
    comparison = compare({"a": drawn(5)["r0"]})
    assert comparison.pairs == ()
    low, high = comparison.variants["a"].interval
    assert low < comparison.variants["a"].accuracy < high


@pytest.mark.parametrize(("successes", "n", "confidence"), [(0, 10, 0.95), (10, 10, 0.95), (45, 50, 0.99), (1, 3, 0.9)])
def test_wilson_interval_equals_scipys(successes: int, n: int, confidence: float) -> None:
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, n, confidence=confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


@given(st.integers(1, 1000), st.floats(0, 1))
def test_wilson_interval_holds_the_share_and_is_symmetric(n: int, share: float) -> None:
    low, high = wilson_interval(share * n, n)
    assert 0 <= low <= share * n / n <= high <= 1
    assert low < high
    assert wilson_interval(n - share * n, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(
    ("n", "seeds", "seed_sd_points"),
    [
        (613, 3, (0.5, 0.5, 0.5)),
        (613, 5, (0.0, 0.5, 1.0)),
        (5000, 3, (0.5, 0.5, 0.5)),
        (129, 5, (0.0, 0.0, 0.0)),
        (20, 5, (0.0, 0.0, 0.0)),
    ],
)
def test_error_rate_and_coverage_by_simulation(n: int, seeds: int, seed_sd_points: tuple[float, ...]) -> None:
    # Of 60 draws at 5 %, 8 alarms or more come with a probability of 1 %; the long form is tools/simulate_verdict.py.
    row = simulate(60, n=n, seeds=seeds, seed_sd_points=seed_sd_points)
    assert row.false_alarm <= 7 / 60
    assert row.coverage >= 53 / 60
    assert row.accuracy_coverage >= 0.9
    assert row.false_equivalent <= 7 / 60
    assert row.partial_alarm <= 7 / 60
    assert row.partial_coverage >= 53 / 60


def test_the_simulated_recipes_have_the_accuracy_and_the_spread_that_they_are_said_to_have() -> None:
    rng = np.random.default_rng(0)
    correct = draw_correct(rng, n=20_000, seeds=400, seed_sd_points=(0.0, 0.5, 1.0), worse=(0.0, 0.0, 0.02))
    means = {name: array.mean(axis=1) for name, array in correct.items()}
    for (name, of_seeds), sd, accuracy in zip(means.items(), (0.0, 0.005, 0.01), (0.94, 0.94, 0.92), strict=True):
        assert of_seeds.mean() == pytest.approx(accuracy, abs=0.004), name
        assert of_seeds.std() == pytest.approx(sd, abs=0.0012), name
    a, b = correct["r0"][:2]
    assert (~a & ~b).sum() / (~a).sum() == pytest.approx(0.69, abs=0.05)
    assert all(len(array) == 400 for array in itertools.chain(correct.values()))
