"""Probabilities and labels -> scores of one model; pure functions on NumPy arrays.

Shapes: N images, C classes. Labels are class indices. Nothing here draws random numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]
ECE_BINS = 15


def score_predictions(probabilities: Floats, labels: Integers) -> dict[str, float]:
    """All scores of one model on one split: `accuracy`, `balanced_accuracy`, `log_loss`, `roc_auc` and `ece`.

    Args:
        probabilities: shape (N, C), float64, rows that sum to 1; N > 0.
        labels: shape (N,), the true classes, in [0, C).

    Raises:
        DataError: all labels are the same class, so that there is no ROC curve.
    """
    return {
        "accuracy": accuracy(probabilities, labels),
        "balanced_accuracy": balanced_accuracy(probabilities, labels),
        "log_loss": log_loss(probabilities, labels),
        "roc_auc": roc_auc(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
    }


def accuracy(probabilities: Floats, labels: Integers) -> float:
    """The share of images whose most probable class is the true one; a tie goes to the first class.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).
    """
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def recall_by_class(probabilities: Floats, labels: Integers) -> Floats:
    """For each class the share of its images that are classified correctly, shape (C,); NaN for one without images.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).
    """
    classes = probabilities.shape[1]
    images = np.bincount(labels, minlength=classes)  # (C,)
    correct = np.bincount(labels[probabilities.argmax(axis=1) == labels], minlength=classes)  # (C,)
    recall: Floats = np.divide(correct, images, out=np.full(classes, np.nan), where=images > 0)
    return recall


def balanced_accuracy(probabilities: Floats, labels: Integers) -> float:
    """The mean recall of the classes that have images: each counts the same (Brodersen et al., ICPR 2010).

    Args:
        probabilities: shape (N, C).
        labels: shape (N,); N > 0.
    """
    return float(np.nanmean(recall_by_class(probabilities, labels)))


def log_loss(probabilities: Floats, labels: Integers) -> float:
    """The mean of -log p(true class), in nats; p is clipped at the float64 epsilon, so the most is 36.04 an image.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).
    """
    true = probabilities[np.arange(len(labels)), labels]  # (N,)
    return float(-np.mean(np.log(np.clip(true, np.finfo(np.float64).eps, 1.0))))


def roc_auc(probabilities: Floats, labels: Integers) -> float:
    """The area under the ROC curve: of class 1 for two classes, the macro mean of one-vs-rest for more.

    The area is the chance that an image of the class gets a higher probability than another image, ties counting
    half (Hanley and McNeil 1982). Classes without an image among the labels have no curve and are left out.

    Args:
        probabilities: shape (N, C).
        labels: shape (N,).

    Raises:
        DataError: all labels are the same class.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(
            f"all {len(labels)} images to be scored are of one class, so there is no ROC curve; "
            "put images of another class into this split"
        )
    positives = [1] if probabilities.shape[1] == 2 else present
    return float(np.mean([_area_under_curve(probabilities[:, c], labels == c) for c in positives]))


def _area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The Mann-Whitney statistic of `scores`, shape (N,), over the pairs of a positive and a negative image."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # (N,) from 1; tied scores share their mean rank
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    above = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def undo_temperature(probabilities: Floats, temperature: float) -> Floats:
    """The probabilities that a model had before its logits were divided by `temperature`; shape (N, C).

    They are p ** temperature, scaled to sum to 1: what a softmax adds to all logits does not matter.

    Args:
        probabilities: shape (N, C), after.
        temperature: above 0.
    """
    powers = probabilities**temperature
    before: Floats = powers / powers.sum(axis=1, keepdims=True)
    return before


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
    """The images whose top probability falls into one bin."""

    share: float
    """Of all images."""
    confidence: float
    """Their mean top probability."""
    accuracy: float
    """How many of them are right."""


def reliability_bins(probabilities: Floats, labels: Integers, *, bins: int = ECE_BINS) -> list[ReliabilityBin]:
    """The bins of a reliability diagram that hold an image, by rising confidence.

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
