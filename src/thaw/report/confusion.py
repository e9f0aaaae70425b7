"""Which classes are taken for which: counts, and of many classes what is worst."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.report.results import Results, Run

Counts = NDArray[np.int64]
"""Shape (C, C): how often an image of class i was taken for class j."""


def count_confusion(runs: Sequence[Run], results: Results) -> Counts:
    """How often an image of class i was taken for class j, summed over the runs; shape (C, C), int64."""
    counts = np.zeros((len(results.classes), len(results.classes)), dtype=np.int64)
    for run in runs:
        np.add.at(counts, (results.test_labels, run.predicted), 1)
    return counts


def measure_recall(counts: Counts) -> NDArray[np.floating[Any]]:
    """The share of each class's images that is classified correctly, shape (C,); 1 where it has none."""
    totals = counts.sum(axis=1)
    return np.where(totals > 0, counts.diagonal() / np.maximum(totals, 1), 1.0)


def rank_confused(counts: Counts, *, most: int) -> list[tuple[int, int]]:
    """The pairs (truth, predicted) with the most errors, the worst first; never a pair without any."""
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [(truth, predicted) for truth, predicted in pairs if wrong[truth, predicted] > 0]
