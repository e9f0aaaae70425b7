"""Features and labels -> what a solved head says of each image after training on others, on few of them and on many.

Five folds, each predicted by heads that saw none of it (Stone, Journal of the Royal Statistical Society B 1974). Copies
of an image are in one fold. The penalty is the one that does best on the fold that is predicted: one of ten or so, at
each size alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thaw.diagnosis.learning_curve_csv import CurvePoint
from thaw.training.head_solver import PENALTIES, SolvedHead, solve_head
from thaw.utils.random_streams import shuffle_names

FOLDS = 5
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the training images of a fold."""
TOLERANCE = 1e-2
"""Of the solver: no prediction changes beyond it, in half the time (0.2 s instead of 0.5 s on 971 x 1,280)."""
MIN_IMAGES = 2
"""Of a class, on average, in the smallest share that is tried."""


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """What heads say of N images that they did not see."""

    points: tuple[CurvePoint, ...]
    """How many each head gets right, by fold and share."""

    probabilities: NDArray[np.float64]
    """Shape `(N, C)`, after training on all other folds."""


def predict_out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    groups: Sequence[str],
    classes: int,
    on_progress: Callable[[CurvePoint], object] | None = None,
) -> OutOfFold:
    """Solve heads on nested shares of the images of all folds but one, in turn.

    Each class has the same share of its groups of copies in each fold and in each share, and at least one group in
    each share.

    Args:
        features: shape `(N, D)`, float32.
        labels: shape `(N,)`, int64, in [0, C).
        groups: N names; copies of one image have the same one, and the same label.
        classes: C, each with at least two groups.
        on_progress: is told of each head once it is solved.

    Raises:
        DataError: a class has fewer than two groups.
        DivergedError: a feature is not finite.
    """
    told = on_progress or (lambda _: None)
    folds = np.array(_rank_groups(labels, groups, name="fold")) % FOLDS
    shares = [share for share in SHARES if share == 1 or share * len(labels) * (1 - 1 / FOLDS) >= MIN_IMAGES * classes]
    points = []
    probabilities = np.zeros((len(labels), classes))
    for fold in range(FOLDS):
        held_out, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if len(held_out) == 0:
            continue
        order = _order_nested(labels[others], [groups[i] for i in others.tolist()], name=f"order {fold}")
        head: SolvedHead | None = None
        for share in shares:
            rows = others[order <= share]
            head = solve_head(
                features[rows],
                labels[rows],
                val_features=features[held_out],
                val_labels=labels[held_out],
                classes=classes,
                penalties=_penalties_around(head),
                tolerance=TOLERANCE,
            )
            probabilities[held_out] = _predict(head, features[held_out])
            correct = int((probabilities[held_out].argmax(axis=1) == labels[held_out]).sum())
            points.append(CurvePoint(fold=fold, share=share, images=len(rows), tested=len(held_out), correct=correct))
            told(points[-1])
    return OutOfFold(points=tuple(points), probabilities=probabilities)


def _rank_groups(labels: NDArray[np.int64], groups: Sequence[str], *, name: str) -> list[int]:
    """For each image the place of its group among those of its class, in an order drawn by `name`."""
    rank: dict[str, int] = {}
    for label in np.unique(labels):
        names = {groups[i] for i in np.flatnonzero(labels == label).tolist()}
        rank |= {group: place for place, group in enumerate(shuffle_names(names, draw=name))}
    return [rank[group] for group in groups]


def _order_nested(labels: NDArray[np.int64], groups: Sequence[str], *, name: str) -> NDArray[np.float64]:
    """For each image the share in which it is first; the first group of each class is in every share. Shape `(N,)`."""
    ranks = np.array(_rank_groups(labels, groups, name=name))
    counts = np.zeros(int(labels.max()) + 1)
    np.maximum.at(counts, labels, ranks + 1)
    # Half a group more or less, as rounding does.
    return np.where(ranks == 0, 0.0, (ranks + 0.5) / counts[labels])


def _penalties_around(head: SolvedHead | None) -> tuple[float, ...]:
    """Where the penalty for more images will be: the solver goes on from either end where it has to."""
    if head is None:
        return PENALTIES
    best = head.path[head.chosen].penalty
    return best * 10**0.5, best, best / 10**0.5


def _predict(head: SolvedHead, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probabilities that a head gives, shape `(N, C)`."""
    logits = nn.functional.linear(*map(torch.from_numpy, (features, head.weight, head.bias))).double()
    found: NDArray[np.float64] = logits.softmax(dim=1).numpy()
    return found
