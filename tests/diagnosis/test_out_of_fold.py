"""Out of fold: no head sees what it predicts, nor a copy of it; shares are nested; the same images give the same.

Run with: pytest tests/diagnosis/test_out_of_fold.py
"""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw.diagnosis import out_of_fold
from thaw.diagnosis.out_of_fold import FOLDS, predict_out_of_fold
from thaw.errors import DataError
from thaw.training.head_solver import SolvedHead, solve_head

CLASSES = 3


def draw_images(count: int, *, copies: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    """Three classes that overlap; `copies` images in a row are one group."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(count // copies) % CLASSES, copies)
    centres = rng.normal(0, 1, (CLASSES, 8))
    features = centres[labels] + rng.normal(0, 1, (len(labels), 8))
    return features.astype(np.float32), labels, [f"g{i // copies}" for i in range(len(labels))]


def predict(features: NDArray[np.float32], labels: NDArray[np.int64], groups: list[str]) -> out_of_fold.OutOfFold:
    return predict_out_of_fold(features, labels, groups=groups, classes=CLASSES)


def test_no_head_sees_what_it_predicts_and_shares_are_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, groups = draw_images(240, copies=4)
    features[:, 0] = np.arange(240)  # by which rows are known again
    seen: list[tuple[set[int], set[int]]] = []

    def recorded(
        train: NDArray[np.float32], *arguments: Any, val_features: NDArray[np.float32], **more: Any
    ) -> SolvedHead:
        seen.append(({int(x) for x in train[:, 0]}, {int(x) for x in val_features[:, 0]}))
        return solve_head(train, *arguments, val_features=val_features, **more)

    monkeypatch.setattr(out_of_fold, "solve_head", recorded)
    found = predict(features, labels, groups)
    assert len(seen) == len(found.points)
    for train, tested in seen:
        assert not {groups[i] for i in train} & {groups[i] for i in tested}
        assert {labels[i] for i in train} == set(range(CLASSES))
    for (smaller, tested), (larger, tested_next) in itertools.pairwise(seen):
        assert smaller < larger if tested == tested_next else len(larger) < len(smaller)
    whole = [(train, tested) for (train, tested), point in zip(seen, found.points, strict=True) if point.share == 1]
    assert len(whole) == FOLDS
    assert sorted(i for _, tested in whole for i in tested) == list(range(240))
    assert all(len(train) + len(tested) == 240 for train, tested in whole)


def test_points_count_what_the_probabilities_say() -> None:
    features, labels, groups = draw_images(200)
    found = predict(features, labels, groups)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    whole = [point for point in found.points if point.share == 1]
    assert sum(point.tested for point in whole) == 200
    assert sum(point.correct for point in whole) == (found.probabilities.argmax(axis=1) == labels).sum() > 100
    # Of each class the rounded share of the groups.
    assert all(abs(point.images - 160 * point.share) <= 3 for point in found.points)
    assert min(point.share for point in found.points) == 0.05, "smaller ones would have less than two images a class"


def test_the_order_of_the_images_changes_nothing() -> None:
    features, labels, groups = draw_images(120)
    order = np.random.default_rng(1).permutation(120)
    first = predict(features, labels, groups)
    second = predict(features[order], labels[order], [groups[i] for i in order.tolist()])
    assert [(p.fold, p.share, p.images) for p in first.points] == [(p.fold, p.share, p.images) for p in second.points]
    np.testing.assert_allclose(second.probabilities, first.probabilities[order], atol=1e-2)


def test_few_images_of_a_class_are_enough_and_one_is_not() -> None:
    features, labels, groups = draw_images(60)
    few = np.flatnonzero((labels != 2) | (np.arange(60) < 6))  # two of class 2
    found = predict(features[few], labels[few], [groups[i] for i in few.tolist()])
    assert len({point.fold for point in found.points}) == FOLDS
    one = np.flatnonzero((labels != 2) | (np.arange(60) < 3))
    with pytest.raises(DataError, match="class 2 of 0 to 2 has no training image"):
        predict(features[one], labels[one], [groups[i] for i in one.tolist()])
