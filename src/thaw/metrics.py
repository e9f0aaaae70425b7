"""Probabilities and labels -> numbers with their uncertainty; pure functions on NumPy arrays.

Shapes: N pictures, C classes, S seeds. Labels are class indices. Nothing here draws random numbers: the intervals have
closed forms, and the permutation test is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

ECE_BINS = 15


def score_predictions(probabilities: Floats, labels: Integers) -> dict[str, float]:
    """All scores of one model on one split: `accuracy`, `log_loss`, `roc_auc` and `ece`.

    Args:
        probabilities: shape (N, C), float64, rows that sum to 1; N > 0.
        labels: shape (N,), the true classes, in [0, C).

    Raises:
        DataError: all labels are the same class, so that there is no ROC curve.
    """
    return {
        "accuracy": accuracy(probabilities, labels),
        "log_loss": log_loss(probabilities, labels),
        "roc_auc": roc_auc(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
    }


def accuracy(probabilities: Floats, labels: Integers) -> float:
    """The share of pictures whose most probable class is the true one; a tie goes to the first class.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).
    """
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def log_loss(probabilities: Floats, labels: Integers) -> float:
    """The mean of -log p(true class), in nats; p is clipped at the float64 epsilon, so the most is 36.04 a picture.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).
    """
    true = probabilities[np.arange(len(labels)), labels]  # (N,)
    return float(-np.mean(np.log(np.clip(true, np.finfo(np.float64).eps, 1.0))))


def roc_auc(probabilities: Floats, labels: Integers) -> float:
    """The area under the ROC curve: of class 1 for two classes, the macro mean of one-vs-rest for more.

    The area is the chance that a picture of the class gets a higher probability than another picture, ties counting
    half (Hanley and McNeil 1982). Classes without a picture among the labels have no curve and are left out.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).

    Raises:
        DataError: all labels are the same class.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(
            f"all {len(labels)} pictures to be scored are of one class, so there is no ROC curve; "
            "put pictures of another class into this split"
        )
    positives = [1] if probabilities.shape[1] == 2 else present
    return float(np.mean([_area_under_curve(probabilities[:, c], labels == c) for c in positives]))


def _area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The Mann-Whitney statistic of `scores`, shape (N,), over the pairs of a positive and a negative picture."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # (N,) from 1; tied scores share their mean rank
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    above = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def expected_calibration_error(probabilities: Floats, labels: Integers, *, bins: int = ECE_BINS) -> float:
    """The mean gap between confidence and accuracy over bins of equal width (Guo et al., ICML 2017, equation 5).

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).
        bins: how many bins (m/bins, (m+1)/bins] divide the confidence.
    """
    return sum(b.share * abs(b.accuracy - b.confidence) for b in reliability_bins(probabilities, labels, bins=bins))


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The pictures whose top probability falls into one bin."""

    share: float
    """Of all pictures."""
    confidence: float
    """Their mean top probability."""
    accuracy: float
    """How many of them are right."""


def reliability_bins(probabilities: Floats, labels: Integers, *, bins: int = ECE_BINS) -> list[ReliabilityBin]:
    """The bins of a reliability diagram that hold a picture, by rising confidence.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).
        bins: how many bins (m/bins, (m+1)/bins] divide the confidence.
    """
    confidence = probabilities.max(axis=1)  # (N,)
    right = probabilities.argmax(axis=1) == labels  # (N,)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (N,)
    return [
        ReliabilityBin(
            share=float(np.mean(place == b)),
            confidence=float(confidence[place == b].mean()),
            accuracy=float(right[place == b].mean()),
        )
        for b in np.unique(place)
    ]


def wilson_interval(successes: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927), which holds its level with few pictures and close to 100 %.

    Args:
        successes: how many of `n` were right, in [0, n]. May be a fraction: the mean over seeds, which makes the
            interval one of the pictures alone; how far seeds differ is another question.
        n: how many pictures, above 0.
        confidence: the level of the interval, in (0, 1).

    Returns:
        The lower and the upper end, in [0, 1].
    """
    assert 0 <= successes <= n, f"{successes} of {n}"
    assert n > 0
    z = _two_sided_z(confidence)
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding must not push the ends past the share where that is 0 or 1.
    return max(0.0, min(share, float(center - half))), min(1.0, max(share, float(center + half)))


def _two_sided_z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """How far two models differ on the same pictures."""

    difference: float
    """Accuracy of the first minus accuracy of the second, mean over seeds."""
    interval: tuple[float, float]
    """Of the difference."""
    p_value: float
    """Of no difference, two-sided; not corrected for further comparisons."""
    units_differing: int
    """How many pictures (or duplicate groups) one of the two got right more often than the other."""


def compare_paired(
    right_a: NDArray[np.bool_],
    right_b: NDArray[np.bool_],
    *,
    groups: Integers | None = None,
    confidence: float = 0.95,
) -> PairedComparison:
    """Compare two models that were tested on the same pictures, each trained with the same seeds.

    The unit is the picture, or its group of duplicates, never the prediction: three seeds on one picture are not three
    pictures. What is said holds for these trained models on other pictures; it says nothing about further seeds.

    Args:
        right_a: shape (S, N), which pictures the first model gets right, a row a seed; S and N above 0.
        right_b: shape (S, N), the same of the second model.
        groups: shape (N,), equal numbers for pictures that are duplicates of each other, or None if none are.
        confidence: the level of the interval.
    """
    assert right_a.shape == right_b.shape, f"{right_a.shape} against {right_b.shape}"
    seeds, n = right_a.shape
    gain = right_a.sum(axis=0) - right_b.sum(axis=0)  # (N,) integers: seeds with a right less seeds with b right
    place = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    gains = np.bincount(place, weights=gain).astype(int)  # (U,) a unit
    sizes = np.bincount(place)  # (U,)
    return PairedComparison(
        difference=float(gains.sum() / (seeds * n)),
        interval=_difference_interval(gains / seeds, sizes, confidence=confidence),
        p_value=sign_flip_p_value(gains),
        units_differing=int(np.count_nonzero(gains)),
    )


def sign_flip_p_value(gains: Integers) -> float:
    """The exact two-sided p-value of the permutation test that flips the sign of each unit's gain (Fisher 1935).

    If the two models are alike, each gain could as well have the other sign. All 2^U ways to set the signs are counted,
    by dynamic programming over the possible sums, so nothing is sampled. With one seed and no groups all gains are -1,
    0 or 1, and this is the exact McNemar test.

    Args:
        gains: shape (U,), integers; zeros do not matter.

    Returns:
        The share of sign patterns whose sum is at least as far from 0 as the sum found; 1 if all gains are 0.
    """
    weights = np.sort(np.abs(gains[gains != 0]))
    total = int(weights.sum())
    chance = np.zeros(total + 1)  # chance[s]: of the positive gains to add up to s, with random signs
    chance[0] = 1.0
    for weight in weights:
        halved = chance / 2
        chance = halved.copy()
        chance[weight:] += halved[: len(halved) - weight]
    sums = 2 * np.arange(total + 1) - total
    return min(1.0, float(chance[np.abs(sums) >= abs(int(gains.sum()))].sum()))


def _difference_interval(gains: Floats, sizes: Integers, *, confidence: float) -> tuple[float, float]:
    """The interval of a mean paired difference by Agresti and Min (Statistics in Medicine, 2005).

    It is Wald's after two made-up pictures were added, half a picture to each cell of the table (right by both, by
    neither, by the first or the second alone). So it has a width even where the models never differ, where a bootstrap
    would answer [0, 0]. Several seeds make the gains fractions, and duplicate groups give units of several
    pictures; the variance is that of a ratio of sums over units.

    Args:
        gains: shape (U,), mean over seeds, summed over the pictures of the unit.
        sizes: shape (U,), pictures in the unit.
        confidence: the level of the interval.
    """
    n = int(sizes.sum()) + 2
    mean = gains.sum() / n
    invented = 0.5 * (1 - mean) ** 2 + 0.5 * (-1 - mean) ** 2 + 1.0 * mean**2
    half = _two_sided_z(confidence) * np.sqrt(np.sum((gains - mean * sizes) ** 2) + invented) / n
    return max(-1.0, float(mean - half)), min(1.0, float(mean + half))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979): the chance of one false alarm among all stays at the level.

    Args:
        p_values: in any order, each in [0, 1].

    Returns:
        The adjusted p-values in the same order, each at least as large as before and at most 1.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
