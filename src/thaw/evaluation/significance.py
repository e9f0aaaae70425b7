"""How sure one can be of a difference between recipes: intervals and tests that count images and seeds as random.

What is estimated is the accuracy of a model that is trained anew by a recipe on the same training images, and tested on
new ones from the same source. So two things are drawn: the test images, of which copies count as one unit, and all that
a training draws, a seed. Their effects are crossed: all seeds meet the same images (Searle, Casella and McCulloch,
Variance Components, 1992, chapter 4). Of U units and S seeds, the variance of a mean over both is

    image / U  +  seed / S  +  interaction / (U S)

The first and the last are estimated together, from the seeds' mean on each unit. The second is what the means of the
seeds vary by beyond the last; few seeds estimate it badly. So all pairs of recipes together have a say in it, and a
pair that varies more than their mean keeps its own. Intervals and tests are generalised ones (Tsui and Weerahandi, JASA
1989; Weerahandi, JASA 1993): means over all values that the second may have, each as likely as chi-squared makes it
after what was seen. (Satterthwaite's degrees of freedom were tried first: with 3 seeds and 5,000 images they gave 9 %
false alarms.) The intervals of all pairs hold together by Sidak's inequality (JASA 1967), and a p-value is below 1 less
the confidence exactly where its interval leaves out 0, since both come from one function. tools/simulate_verdict.py
measures how often all this is wrong.

Shapes: S seeds, N images, U units. Nothing here draws random numbers.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from thaw.evaluation.scores import Floats, Integers

Correct = NDArray[np.bool_]
Outcome = Literal["better", "equivalent", "inconclusive"]

Name = TypeVar("Name")

MIN_SEEDS = 3
"""With fewer, how far seeds differ is not known well enough: the error rate is not kept, so nothing is said."""

MIN_UNITS = 20
"""With fewer units, the variance between them is not known well enough: every pair is inconclusive."""

POWER = 0.8
"""With which `RecipePair.detectable` is found, and a pair is settled by what it is said to need."""

_INVENTED_UNITS = {0.0: 1.0, 1.0: 1.0}
_INVENTED_DIFFERENCES = {-1.0: 0.5, 0.0: 1.0, 1.0: 0.5}
"""Half a unit for each way in which two recipes can be right or wrong about one."""

MOST_POOLED = 2
"""Recipes whose seeds count for the degrees of freedom that are shared: where one of many varies and the others do not,
the mean of all is known no better than that one."""

_LOG_ODDS = np.linspace(-40.0, 40.0, 513)
"""Of the quantiles of chi-squared over which a chance is averaged. Where few seeds tell how much they vary, a small
p-value comes from the lowest of them alone, down to the 1e-17th."""

MOST_SEEDS, MOST_IMAGES_FACTOR = 100, 1000
"""How far to look for what would settle a pair."""


@dataclass(frozen=True, kw_only=True)
class RecipeAccuracy:
    """What is known of one recipe."""

    accuracy: float
    """The mean over images and seeds."""

    interval: tuple[float, float]
    """Of the expected accuracy, in [0, 1]; by itself, not together with those of other recipes."""

    seed_sd: float | None
    """By how much the expected accuracy of a model differs from seed to seed; None with one seed."""


@dataclass(frozen=True, kw_only=True)
class RecipePair:
    """What is known of the difference between two recipes."""

    a: str
    b: str

    difference: float
    """The accuracy of `a` less that of `b`."""

    interval: tuple[float, float]
    """Of the expected difference; all pairs' intervals hold together."""

    p_value: float
    """Of no expected difference, two-sided, adjusted for the number of pairs."""

    outcome: Outcome
    """equivalent: the interval lies within the margin. better: else, it leaves out 0. Else inconclusive."""

    outcome_of_models: Outcome
    """The same of these very models: with fewer than MIN_SEEDS all that can be said, or else `outcome`."""

    units: int
    """Images that both were tested on, copies counted as one. Below MIN_UNITS both outcomes are inconclusive."""

    detectable: float
    """The smallest expected difference that would be found with a probability of 80 %."""

    seeds_needed: int | None
    """With so many seeds an inconclusive pair would be settled with a probability of 80 %, if the difference found is
    the true one; None: with no number, or it is settled, or there are too few seeds to tell."""

    images_needed: int | None
    """With so many test images, likewise."""

    images_deciding: int | None
    """So many test images, answered otherwise by the models of all seeds of one recipe, would change the outcome, if
    the interval stayed as wide; None where there are too few seeds or units for another outcome."""


@dataclass(frozen=True, kw_only=True)
class RecipeComparison:
    """All recipes and all pairs of them."""

    variants: dict[str, RecipeAccuracy]
    pairs: tuple[RecipePair, ...]

    speaks_of_recipes: bool
    """Whether there are MIN_SEEDS. If not, intervals and p-values are of these very models on other images, and so is
    all that is found."""


@dataclass(frozen=True, kw_only=True)
class _Variance:
    """The parts of the variance of a mean over S seeds and U units."""

    image: float
    """Of the seeds' mean on the units; holds the part of the interaction, too."""

    interaction: float
    """What the mean of one seed varies by because its errors on single units are its own."""

    seed_means: float
    """Of the seeds' means, as it was seen: what their expected means differ by, and the interaction."""

    seeds: int

    units: int

    df: float
    """The degrees of freedom of `seed_means`; 0 with one seed."""

    @property
    def seed(self) -> float:
        """Of the expected mean of one seed."""
        return max(0.0, self.seed_means - self.interaction)

    @property
    def total(self) -> float:
        """Of the mean over both."""
        return self.image + self.seed / self.seeds

    def tail(self, distance: float) -> float:
        """The chance that a mean is farther than `distance` from what is expected, to either side."""
        if self.df == 0:
            return float(2 * special.ndtr(-distance / np.sqrt(self.image)))
        chi_squared, weights = _chi_squared(self.df)
        seed = np.maximum(0.0, self.seed_means * self.df / chi_squared - self.interaction)
        return float(weights @ (2 * special.ndtr(-distance / np.sqrt(self.image + seed / self.seeds))))

    def half_width(self, alpha: float) -> float:
        """The distance whose `tail` is `alpha`."""
        largest = float(np.sqrt(self.total))
        while self.tail(largest) > alpha:
            largest *= 2
        return float(optimize.brentq(lambda distance: self.tail(distance) - alpha, 0.0, largest, xtol=1e-12))

    def projected(self, *, seeds: int, images_factor: float) -> "_Variance":
        """The same with more of either."""
        interaction = self.interaction / images_factor
        pure = max(0.0, self.image - self.interaction / self.seeds) / images_factor
        return _Variance(
            image=pure + interaction / seeds,
            interaction=interaction,
            seed_means=self.seed + interaction,
            seeds=seeds,
            units=round(self.units * images_factor),
            df=self.df * (seeds - 1) / max(1, self.seeds - 1),
        )


@functools.cache
def _chi_squared(df: float) -> tuple[Floats, Floats]:
    """Quantiles of chi-squared and their weights, whose sum is 1, both of the shape of _LOG_ODDS.

    The trapezoidal rule in the log-odds of the quantile's level, which fall off to both sides: it is exact to many
    digits there (Trefethen and Weideman, SIAM Review 2014).
    """
    level = special.expit(_LOG_ODDS)
    weights = level * special.expit(-_LOG_ODDS)
    quantiles: Floats = np.where(
        _LOG_ODDS < 0, stats.chi2.ppf(level, df), stats.chi2.isf(special.expit(-_LOG_ODDS), df)
    )
    return quantiles, weights / weights.sum()


def compare_recipes(
    correct: Mapping[str, Correct], *, groups: Integers, margin: float, confidence: float = 0.95
) -> RecipeComparison:
    """Compare recipes that were trained with the same seeds and tested on the same images.

    Args:
        correct: recipe -> which images each seed's model gets right, shape (S, N), all of one shape; S and N above 0.
        groups: shape (N,), equal numbers for images that are duplicates of each other.
        margin: differences within it, as a share of 1, do not matter.
        confidence: of the intervals.
    """
    (shape,) = {array.shape for array in correct.values()}
    seeds, images = shape
    unit_of = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(unit_of)  # (U,)
    sums = {name: _sum_units(array, unit_of, count=len(sizes)) for name, array in correct.items()}
    couples = list(itertools.combinations(correct, 2))
    differences = {pair: sums[pair[0]] - sums[pair[1]] for pair in couples}
    # Each seed has a deviation for each recipe, of which the pairs see the differences alone.
    of_pairs = _pool_seeds(
        {pair: _estimate(values, sizes, _INVENTED_DIFFERENCES) for pair, values in differences.items()},
        independent=len(correct) - 1,
    )
    own = {name: _estimate(values, sizes, _INVENTED_UNITS) for name, values in sums.items()}
    # A recipe that varies more than the mean of all has an interval by its own degrees of freedom.
    of_recipes = {
        name: dataclasses.replace(pooled, df=own[name].df) if pooled.seed_means == own[name].seed_means else pooled
        for name, pooled in _pool_seeds(own, independent=len(correct)).items()
    }
    alpha = 1 - confidence ** (1 / max(1, len(couples)))
    return RecipeComparison(
        variants={
            name: RecipeAccuracy(
                accuracy=float(values.sum() / (seeds * images)),
                interval=_recipe_interval(values, of_recipes[name], images=images, confidence=confidence),
                seed_sd=None if seeds == 1 else float(np.sqrt(own[name].seed)),
            )
            for name, values in sums.items()
        },
        pairs=tuple(
            _describe_pair(
                pair,
                float(values.sum() / (seeds * images)),
                of_pairs[pair],
                alpha=alpha,
                pairs=len(couples),
                margin=margin,
                images=images,
            )
            for pair, values in differences.items()
        ),
        speaks_of_recipes=seeds >= MIN_SEEDS,
    )


def accuracy_interval(correct: Correct, *, groups: Integers) -> tuple[float, float]:
    """95 % interval of the accuracy of one model on new images from the same source.

    Args:
        correct: shape (N,), which images it gets right.
        groups: shape (N,), equal numbers for images that are duplicates of each other.
    """
    return compare_recipes({"": correct[None]}, groups=groups, margin=0.0).variants[""].interval


def wilson_interval(
    successes: float, n: float, *, z: float | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927), which holds its level with few images and close to 100 %.

    Args:
        successes: how many of `n` were correct, in [0, n]; both may be fractions, as an effective number of images is.
        n: how many there are, above 0.
        z: the quantile to use; None: the normal distribution's.
        confidence: the level of the interval, in (0, 1), where `z` is None.

    Returns:
        The lower and the upper end, in [0, 1].
    """
    assert 0 <= successes <= n, f"{successes} of {n}"
    assert n > 0
    z = NormalDist().inv_cdf((1 + confidence) / 2) if z is None else z
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding must not push the ends past the share where that is 0 or 1.
    return max(0.0, min(share, float(center - half))), min(1.0, max(share, float(center + half)))


def _sum_units(correct: Correct, unit_of: Integers, *, count: int) -> Floats:
    """How many images of each unit each seed's model gets right, shape (S, U)."""
    return np.stack([np.bincount(unit_of, weights=row, minlength=count) for row in correct.astype(np.float64)])


def _estimate(values: Floats, sizes: Integers, invented: Mapping[float, float]) -> _Variance:
    """The parts of the variance of the mean of `values`, shape (S, U), over units of `sizes` images, shape (U,).

    The mean is a ratio of sums over units, so its variance is that of what is left of each unit's sum (Cochran,
    Sampling Techniques, 1977, section 6.3). `invented` units of the mean size, the value of their images -> how many,
    are added (Agresti and Min, Statistics in Medicine 2005): so the variance is above 0 where all images are alike.
    """
    seeds, units = values.shape
    n = float(sizes.sum())
    seed_means = values.sum(axis=1) / n  # (S,)
    mean = seed_means.mean()
    left = values.mean(axis=0) - mean * sizes  # (U,)
    size = n / units
    added = sum(count * (size * (value - mean)) ** 2 for value, count in invented.items())
    image = float(left @ left * units / max(1, units - 1) + added) / (n + size * sum(invented.values())) ** 2
    if seeds == 1:
        return _Variance(image=image, interaction=0.0, seed_means=0.0, seeds=1, units=units, df=0.0)
    inner = values - np.outer(seed_means - mean, sizes) - values.mean(axis=0)  # (S, U)
    interaction = float((inner**2).sum()) / (seeds - 1) * units / max(1, units - 1) / n**2
    spread = float(seed_means.var(ddof=1))
    return _Variance(image=image, interaction=interaction, seed_means=spread, seeds=seeds, units=units, df=seeds - 1)


def _pool_seeds(estimates: dict[Name, _Variance], *, independent: int) -> dict[Name, _Variance]:
    """Let all estimates, of which so many are independent, have a say in how far the means of seeds vary.

    One alone is too rough: where it comes out small by chance, a difference would be found that is none. One that
    comes out larger than the mean of all stays as it is, since recipes may differ in this. With too few seeds they are
    left out: what is said is of these very models, then.
    """
    if any(variance.seeds < MIN_SEEDS for variance in estimates.values()):
        return {name: dataclasses.replace(variance, seed_means=0.0, df=0.0) for name, variance in estimates.items()}
    pooled = float(np.mean([variance.seed_means for variance in estimates.values()])) if estimates else 0.0
    shared = min(max(1, independent), MOST_POOLED)
    return {
        name: dataclasses.replace(variance, seed_means=max(pooled, variance.seed_means), df=variance.df * shared)
        for name, variance in estimates.items()
    }


def _recipe_interval(values: Floats, variance: _Variance, *, images: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval on as many images as would have this variance if each were drawn by itself."""
    accuracy = float(values.sum() / (variance.seeds * images))
    smoothed = (accuracy * variance.units + 1) / (variance.units + 2)
    effective = smoothed * (1 - smoothed) / variance.total
    quantile = variance.half_width(1 - confidence) / float(np.sqrt(variance.total))
    return wilson_interval(accuracy * effective, effective, z=quantile)


def _describe_pair(
    pair: tuple[str, str],
    difference: float,
    variance: _Variance,
    *,
    alpha: float,
    pairs: int,
    margin: float,
    images: int,
) -> RecipePair:
    """Interval, test and outcome of a pair; `alpha` is that of one interval of so many `pairs`."""
    half, p_value = variance.half_width(alpha), min(1.0, variance.tail(abs(difference)))
    of_models: Outcome = "inconclusive"
    if variance.units >= MIN_UNITS:
        of_models = (
            "equivalent" if abs(difference) + half <= margin else "better" if abs(difference) > half else of_models
        )
    outcome: Outcome = of_models if variance.seeds >= MIN_SEEDS else "inconclusive"
    speaks = variance.seeds >= MIN_SEEDS and variance.units >= MIN_UNITS
    settled = outcome != "inconclusive" or variance.seeds < MIN_SEEDS
    aim = _Aim(difference=abs(difference), margin=margin, alpha=alpha)
    return RecipePair(
        a=pair[0],
        b=pair[1],
        difference=difference,
        interval=(max(-1.0, difference - half), min(1.0, difference + half)),
        p_value=1 - (1 - p_value) ** pairs,
        outcome=outcome,
        outcome_of_models=of_models,
        units=variance.units,
        detectable=half + NormalDist().inv_cdf(POWER) * float(np.sqrt(variance.total)),
        seeds_needed=None if settled else _seeds_needed(variance, aim),
        images_needed=None if settled else _images_needed(variance, aim, images=images),
        images_deciding=_images_deciding(abs(difference), half, margin=margin, images=images) if speaks else None,
    )


def _images_deciding(difference: float, half: float, *, margin: float, images: int) -> int:
    """How many images the nearest border between two outcomes is away."""
    end_of_equivalent = margin - half
    borders = [max(half, end_of_equivalent)]
    if 0 <= end_of_equivalent < half:
        borders.append(end_of_equivalent)
    # At the border itself an outcome may fall either way.
    return max(1, math.ceil(min(abs(difference - border) for border in borders) * images))


@dataclass(frozen=True, kw_only=True)
class _Aim:
    """A pair that is to be settled: what it takes, if the difference found is the true one."""

    difference: float
    """From 0 up."""

    margin: float

    alpha: float
    """Of the interval."""

    def is_reached(self, variance: _Variance) -> bool:
        """Whether the pair is found better, or equivalent, with a probability of POWER."""
        if variance.units < MIN_UNITS:
            return False
        # An interval about a difference near 0 may leave the margin at either end: each gets half of what may fail.
        better, equivalent = NormalDist().inv_cdf(POWER), NormalDist().inv_cdf((1 + POWER) / 2)
        sd = float(np.sqrt(variance.total))
        rooms = (self.difference - better * sd, self.margin - self.difference - equivalent * sd)
        return any(room > 0 and variance.tail(room) <= self.alpha for room in rooms)


def _seeds_needed(variance: _Variance, aim: _Aim) -> int | None:
    """The fewest seeds that reach the aim."""
    for seeds in range(variance.seeds + 1, MOST_SEEDS + 1):
        if aim.is_reached(variance.projected(seeds=seeds, images_factor=1)):
            return seeds
    return None


def _images_needed(variance: _Variance, aim: _Aim, *, images: int) -> int | None:
    """The number of test images, to two digits, that reaches the aim."""
    factor = max(1.1, MIN_UNITS / variance.units)
    while factor < MOST_IMAGES_FACTOR:
        if aim.is_reached(variance.projected(seeds=variance.seeds, images_factor=factor)):
            return int(float(f"{images * factor:.1e}"))
        factor *= 1.1
    return None
