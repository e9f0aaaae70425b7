"""label_issues.csv comes back as it was written, and a wrong file is one sentence.

Run with: pytest tests/diagnosis/test_label_issues_csv.py
"""

from pathlib import Path

import pytest

from thaw.diagnosis.label_issues_csv import CheckedLabel, read_label_issues, write_label_issues
from thaw.errors import DataError

ROWS = (
    CheckedLabel(path="Cat/ä, 1.jpg", label="Cat", likely_label="Dog", p_label=0.125, p_likely_label=0.875, rank=1),
    CheckedLabel(path="Dog/2.jpg", label="Dog", likely_label="Dog", p_label=0.75, p_likely_label=0.75, rank=None),
)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_label_issues(tmp_path / "issues.csv", ROWS)
    assert read_label_issues(tmp_path / "issues.csv") == ROWS


def test_a_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "issues.csv"
    with pytest.raises(DataError, match=r"issues\.csv does not exist: run `dvc repro`, which runs the stage diagnose$"):
        read_label_issues(path)
    write_label_issues(path, ROWS)
    path.write_text(path.read_text().replace("0.125", "low"))
    with pytest.raises(DataError, match=r"expected a finite number as p_label, found 'low'; run `dvc repro`$"):
        read_label_issues(path)
