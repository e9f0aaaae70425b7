"""tracking.content: what a run says of its model.

Run with: pytest tests/tracking/test_content.py
"""

from pathlib import Path

import pytest

from report.report_fixtures import ALIKE, make_params, make_project
from thaw import paths
from thaw.data.splits_csv import read_splits, write_splits
from thaw.paths import Cell
from thaw.tracking.content import _test_metrics


def test_copies_make_no_interval_narrower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path, make_params(), mistakes=ALIKE)
    monkeypatch.chdir(tmp_path)

    def width(group_size: int) -> float:
        table = read_splits(paths.SPLITS)
        rows = zip(table.paths, table.labels, table.splits, strict=True)
        write_splits(paths.SPLITS, [(*row, str(number // group_size)) for number, row in enumerate(rows)])
        found = _test_metrics(Cell("fine_tuned", 0))
        assert found["test_accuracy_ci95_low"] <= found["test_accuracy"] <= found["test_accuracy_ci95_high"]
        return found["test_accuracy_ci95_high"] - found["test_accuracy_ci95_low"]

    assert width(20) > 1.2 * width(1)
