"""Planted wrong labels are found, and few others; the stage writes what the functions say.

Run with: pytest tests/diagnosis/test_label_issues.py
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import embed_tiny
from thaw import paths
from thaw.data.splits_csv import read_splits
from thaw.diagnosis import out_of_fold
from thaw.diagnosis.diagnose import diagnose
from thaw.diagnosis.label_issues import check_labels
from thaw.diagnosis.label_issues_csv import CheckedLabel, read_label_issues
from thaw.diagnosis.learning_curve_csv import read_learning_curve
from thaw.diagnosis.out_of_fold import predict_out_of_fold


def check(
    monkeypatch: pytest.MonkeyPatch, *, classes: int, count: int, wrong_share: float, distance: float = 1.2
) -> tuple[list[CheckedLabel], NDArray[np.bool_], NDArray[np.int64]]:
    """Classes in 20 dimensions with some labels changed: what is said of each, which were changed, and the truth."""
    monkeypatch.setattr(out_of_fold, "SHARES", (1.0,))
    rng = np.random.default_rng(0)
    truth = np.arange(count) % classes
    features = (rng.normal(0, 1, (count, 20)) + distance * rng.normal(0, 1, (classes, 20))[truth]).astype(np.float32)
    changed = np.zeros(count, np.bool_)
    changed[rng.permutation(count)[: round(wrong_share * count)]] = True
    labels = np.where(changed, (truth + rng.integers(1, classes, count)) % classes, truth)
    names = [f"{i}.jpg" for i in range(count)]
    found = predict_out_of_fold(features, labels, groups=names, classes=classes)
    checked = check_labels(found.probabilities, labels, paths=names, classes=[f"class {i}" for i in range(classes)])
    return checked, changed, truth


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("wrong_share", [0.05, 0.2])
def test_planted_wrong_labels_are_found(monkeypatch: pytest.MonkeyPatch, classes: int, wrong_share: float) -> None:
    checked, changed, truth = check(monkeypatch, classes=classes, count=600, wrong_share=wrong_share)
    found = np.array([row.rank is not None for row in checked])
    assert (found & changed).sum() / found.sum() > 0.85, "precision"
    assert (found & changed).sum() / changed.sum() > 0.7, "recall"
    assert found.sum() == pytest.approx(changed.sum(), rel=0.25), "the estimate of how many"
    likely = np.array([row.likely_label == f"class {true}" for row, true in zip(checked, truth, strict=True)])
    assert likely[found & changed].mean() > 0.9
    ranks = sorted((row.rank, row.p_label - row.p_likely_label) for row in checked if row.rank is not None)
    assert [rank for rank, _ in ranks] == list(range(1, found.sum() + 1))
    margins = [margin for _, margin in ranks]
    assert margins == sorted(margins)


def test_where_all_labels_are_right_few_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, _, _ = check(monkeypatch, classes=3, count=600, wrong_share=0)
    assert sum(row.rank is not None for row in checked) < 0.01 * 600
    checked, _, _ = check(monkeypatch, classes=2, count=60, wrong_share=0, distance=5)
    assert all(row.rank is None for row in checked)


def test_a_label_that_is_named_is_not_the_likely_one(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, _, _ = check(monkeypatch, classes=4, count=300, wrong_share=0.3, distance=0.3)
    for row in checked:
        assert row.p_likely_label >= row.p_label
        assert row.rank is None or row.likely_label != row.label


@pytest.mark.usefixtures("tiny_project")
def test_the_stage_reads_no_test_image_and_gives_the_same_bytes_again() -> None:
    embed_tiny()
    diagnose()
    files = [paths.LEARNING_CURVE, paths.LABEL_ISSUES]
    first = [file.read_bytes() for file in files]
    splits = read_splits(paths.SPLITS)
    expected = [path for path, split in zip(splits.paths, splits.splits, strict=True) if split != "test"]
    assert [row.path for row in read_label_issues(paths.LABEL_ISSUES)] == expected
    whole = [point for point in read_learning_curve(paths.LEARNING_CURVE) if point.share == 1]
    assert sum(point.tested for point in whole) == len(expected)
    diagnose()
    assert [file.read_bytes() for file in files] == first
