"""Two variants side by side, as comparison.json has them."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from thaw.evaluation.significance import Correct, Outcome, RecipePair

Interval = tuple[float, float]


class Summary(BaseModel):
    """A part of comparison.json: strict, frozen, and nothing else in it; each field says its unit."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class PairComparison(Summary):
    """Two variants: `a` against `b`; differences are accuracy of `a` less that of `b`, as fractions of 1."""

    a: str
    """A variant."""

    b: str
    """Another one."""

    difference: float
    """On the mean over seeds."""

    difference_ci95: Interval
    """95 % interval of the expected difference, which holds for all pairs together."""

    p_value: float
    """Of no expected difference, adjusted for the number of pairs: below 0.05 just where the interval leaves out 0."""

    outcome: Outcome
    """equivalent: the interval lies within the margin. better: else, it leaves out 0. Else inconclusive, as with fewer
    than 3 seeds or 20 different images."""

    outcome_of_models: Outcome
    """The same of these very models: with fewer than 3 seeds all that can be said, or else `outcome`."""

    different_images: int
    """Images that both were tested on, copies counted as one."""

    detectable: float
    """The smallest expected difference that would be found with 80 % power."""

    seeds_needed: int | None
    """So many seeds would settle an inconclusive pair with 80 % power; None: it is settled, or no number does."""

    images_needed: int | None
    """So many test images would settle an inconclusive pair with 80 % power; None: it is settled, or no number does."""

    images_deciding: int | None
    """So many test images, answered otherwise by one variant's models of all seeds, would change the outcome; None:
    there are too few seeds or images for another one."""

    images_differing: int
    """Images that the two do not get correct with equally many seeds."""

    seeds_with_a_ahead: int
    """Seeds with which `a` gets more images correct."""

    seeds_with_b_ahead: int
    """Seeds with which `b` does."""

    @property
    def winner(self) -> str:
        """The more accurate one, as found; `b` if they are equal."""
        return self.a if self.difference > 0 else self.b

    @property
    def loser(self) -> str:
        """The other one."""
        return self.other(self.winner)

    def other(self, variant: str) -> str:
        """Whom `variant`, one of the two, is compared with."""
        return self.b if variant == self.a else self.a


def summarise_pair(pair: RecipePair, correct: Callable[[str], Correct], *, versions: int = 1) -> PairComparison:
    """A pair as the report has it.

    Args:
        pair: what was found.
        correct: variant -> what it was found from, shape (S, N * versions).
        versions: of each image, side by side; images are counted, not versions.
    """
    a, b = (correct(name).reshape(len(correct(name)), -1, versions).sum(axis=2) for name in (pair.a, pair.b))  # (S, N)
    return PairComparison(
        a=pair.a,
        b=pair.b,
        difference=pair.difference,
        difference_ci95=pair.interval,
        p_value=pair.p_value,
        outcome=pair.outcome,
        outcome_of_models=pair.outcome_of_models,
        different_images=pair.units,
        detectable=pair.detectable,
        seeds_needed=pair.seeds_needed,
        images_needed=None if pair.images_needed is None else pair.images_needed // versions,
        images_deciding=None if pair.images_deciding is None else math.ceil(pair.images_deciding / versions),
        images_differing=int(np.sum(a.sum(axis=0) != b.sum(axis=0))),
        seeds_with_a_ahead=int(np.sum(a.sum(axis=1) > b.sum(axis=1))),
        seeds_with_b_ahead=int(np.sum(a.sum(axis=1) < b.sum(axis=1))),
    )


def find_steps(pairs: Sequence[PairComparison], flops: Mapping[str, float]) -> list[PairComparison]:
    """The pairs that lead from the cheapest variant to the cheapest better one, and on from there, until none is.

    Better as a recipe, or, with too few seeds, as these very models are.
    """
    steps: list[PairComparison] = []
    at = min(flops, key=flops.__getitem__)
    while better := [pair for pair in pairs if pair.outcome_of_models == "better" and pair.loser == at]:
        steps.append(min(better, key=lambda pair: flops[pair.winner]))
        at = steps[-1].winner
    return steps
