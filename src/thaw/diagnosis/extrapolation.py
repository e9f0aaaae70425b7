"""Learning curve -> how much twice the images would bring; pure functions on NumPy arrays.

The error rate is taken to fall as a + b n^-c with the number n of training images (Cortes et al., NIPS 1993), and is
fitted much as Hoiem et al. (ICML 2021) do: the exponent c is drawn towards 1/2, since a curve of few points cannot tell
it, and points of many images weigh more. The interval is that of a jackknife over folds. Folds share most of their
training images, so that they differ less than independent draws would: its variance is corrected as Nadeau and Bengio
(Machine Learning 2003) do. `tools/simulate_learning_curve.py` shows how often the interval holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from thaw.diagnosis.learning_curve_csv import CurvePoint

Floats = NDArray[np.float64]

EXPONENTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.25, 1.5, 2.0)
LIKELY_EXPONENT = 0.5
PLAUSIBLE_EXPONENTS = (0.25, 1.0)
"""What the gain is with either is told by half their difference, which widens the interval."""
SHARPNESS = 0.001
"""Residuals of this error rate are as good as none: exponents that fit so well differ by their likeliness alone."""
SMALLEST_SHARE = 0.05
"""Points of smaller shares of the images are shown, not fitted: there curves have shapes of their own (Viering and
Loog, IEEE TPAMI 2023)."""
MIN_FOLDS = 3
"""Below, an interval over folds would say nothing."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """error = floor + scale * n ** -exponent."""

    floor: float
    scale: float
    exponent: float

    def error(self, images: float | Floats) -> Any:
        """The error rate after training on so many images; the shape of `images`."""
        return self.floor + self.scale * np.asarray(images, np.float64) ** -self.exponent


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What twice the training images would bring."""

    law: PowerLaw

    images: int
    """Training images that are doubled."""

    difference: float
    """Accuracy with twice as many, less that with these; a fraction of 1, at least 0."""

    interval: tuple[float, float]
    """95 %."""


def fit_power_law(sizes: Floats, errors: Floats, *, exponents: Sequence[float] = EXPONENTS) -> PowerLaw:
    """The law that is near the points, with an exponent that is not far from 1/2.

    Args:
        sizes: shape `(K,)`, numbers of training images, which are the weights too; K > 1.
        errors: shape `(K,)`, error rates.
        exponents: of which one is taken.
    """
    weights = sizes / sizes.sum()
    best, law = np.inf, None
    for exponent in exponents:
        x = sizes**-exponent
        x_mean, mean = weights @ x, weights @ errors
        scale = max(0.0, float(weights @ ((x - x_mean) * (errors - mean)) / (weights @ (x - x_mean) ** 2)))
        floor = float(mean - scale * x_mean)
        if floor < 0:
            floor, scale = 0.0, float(weights @ (x * errors) / (weights @ x**2))
        residual = float(weights @ (errors - floor - scale * x) ** 2)
        score = np.log(residual + SHARPNESS**2) + abs(np.log(exponent / LIKELY_EXPONENT))
        if score < best:
            best, law = score, PowerLaw(floor=floor, scale=scale, exponent=exponent)
    assert law is not None
    return law


def extrapolate_gain(points: Sequence[CurvePoint], *, images: int) -> Gain | None:
    """What twice `images` would bring; None where the curve has too few points or folds to say.

    Args:
        points: of all folds, each with the same shares.
        images: how many are to be doubled.
    """
    shares = sorted({point.share for point in points if point.share >= SMALLEST_SHARE})
    folds = sorted({point.fold for point in points})
    if len(shares) < 2 or len(folds) < MIN_FOLDS:
        return None
    at = {(point.share, point.fold): point for point in points}
    sizes = np.array([[at[share, fold].images for fold in folds] for share in shares], np.float64)  # (K, J)
    tested = np.array([[at[share, fold].tested for fold in folds] for share in shares], np.float64)
    wrong = tested - np.array([[at[share, fold].correct for fold in folds] for share in shares])

    def fit(of: NDArray[np.int64], exponents: Sequence[float] = EXPONENTS) -> PowerLaw:
        errors = wrong[:, of].sum(axis=1) / tested[:, of].sum(axis=1)
        return fit_power_law(sizes[:, of].mean(axis=1), errors, exponents=exponents)

    def gain(law: PowerLaw) -> float:
        return float(law.error(images) - law.error(2 * images))

    places = np.arange(len(folds))
    law = fit(places)
    difference = gain(law)
    without = np.array([gain(fit(np.delete(places, place))) for place in places])
    count = len(folds)
    variance = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
    # Nadeau and Bengio: 1/J becomes 1/J plus tested over training images, which is 1 / (J - 1).
    variance *= 1 + count / (count - 1)
    half = float(stats.t.ppf(0.975, count - 1)) * variance**0.5
    flattest, steepest = (gain(fit(places, (exponent,))) for exponent in PLAUSIBLE_EXPONENTS)
    half = float(np.hypot(half, (flattest - steepest) / 2))
    return Gain(law=law, images=images, difference=difference, interval=(difference - half, difference + half))
