"""Results on the corrupted test split -> their part of comparison.json; pure functions.

An image has a version for each corruption and severity. These were chosen, not drawn, so that all versions of an image,
and of its copies, are one unit to the statistics; images and seeds are what was drawn, as on the test split itself.
"""

import numpy as np

from thaw.data.corruptions import SEVERITIES, SIDE_PX
from thaw.evaluation.significance import compare_recipes
from thaw.report.pairs import Interval, PairComparison, Summary, summarise_pair
from thaw.report.results import Results


class CorruptedVariantSummary(Summary):
    """A recipe on the corrupted test split."""

    variant: str
    """Its name in params.yaml."""

    accuracy_mean: float
    """Mean over corruptions, severities and seeds, as a fraction of 1."""

    accuracy_ci95: Interval
    """95 % interval of its expected value for a model trained anew, on new images under the same corruptions."""

    seed_sd: float | None
    """Standard deviation between seeds of that mean itself, the chance of the images removed."""

    accuracy_by_severity: dict[str, tuple[float, ...]]
    """For each corruption the accuracy at the severities 1 to 5, mean over seeds."""


class CorruptedSummary(Summary):
    """The test split under the corruptions of `evaluate.corruptions`. The recommendation does not go by it."""

    corruptions: tuple[str, ...]
    """In the order of params.yaml."""

    severities: tuple[int, ...]
    """From the mildest to the most severe."""

    side_px: int
    """The middle square of an image is brought to this side, and then corrupted."""

    variants: tuple[CorruptedVariantSummary, ...]
    """In the order of params.yaml."""

    pairs: tuple[PairComparison, ...]
    """All of them, by `accuracy_mean`; the intervals hold together."""


def summarise_corrupted(results: Results, *, margin: float) -> CorruptedSummary | None:
    """Compare the variants by their mean accuracy under all corruptions; None if there are none.

    Args:
        results: what the stages wrote.
        margin: differences within it, as a share of 1, do not matter.
    """
    if not results.corrupted:
        return None
    first, *_ = results.corrupted
    versions = len(results.corrupted) * len(SEVERITIES)
    correct = {
        name: np.concatenate([of.correct[name] for of in results.corrupted], axis=2).reshape(len(seeds), -1)
        for name, seeds in first.correct.items()
    }  # (S, N * versions)
    compared = compare_recipes(correct, groups=np.repeat(results.test_groups, versions), margin=margin)
    return CorruptedSummary(
        corruptions=tuple(of.corruption for of in results.corrupted),
        severities=SEVERITIES,
        side_px=SIDE_PX,
        variants=tuple(
            CorruptedVariantSummary(
                variant=name,
                accuracy_mean=recipe.accuracy,
                accuracy_ci95=recipe.interval,
                seed_sd=recipe.seed_sd,
                accuracy_by_severity={
                    of.corruption: tuple(of.correct[name].mean(axis=(0, 1)).tolist()) for of in results.corrupted
                },
            )
            for name, recipe in compared.variants.items()
        ),
        pairs=tuple(summarise_pair(pair, correct.__getitem__, versions=versions) for pair in compared.pairs),
    )
