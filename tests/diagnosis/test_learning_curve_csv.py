"""learning_curve.csv comes back as it was written, and a wrong file is one sentence.

Run with: pytest tests/diagnosis/test_learning_curve_csv.py
"""

from pathlib import Path

import pytest

from thaw.diagnosis.learning_curve_csv import CurvePoint, read_learning_curve, write_learning_curve
from thaw.errors import DataError

POINTS = (
    CurvePoint(fold=0, share=0.05, images=40, tested=200, correct=150),
    CurvePoint(fold=0, share=1.0, images=800, tested=200, correct=198),
    CurvePoint(fold=4, share=0.05, images=40, tested=201, correct=152),
    CurvePoint(fold=4, share=1.0, images=800, tested=201, correct=199),
)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_learning_curve(tmp_path / "curve.csv", POINTS)
    assert read_learning_curve(tmp_path / "curve.csv") == POINTS


def test_a_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    with pytest.raises(DataError, match=r"curve\.csv does not exist: run `dvc repro`, which runs the stage diagnose$"):
        read_learning_curve(path)
    write_learning_curve(path, POINTS)
    path.write_text(path.read_text().replace("150", "many"))
    with pytest.raises(DataError, match=r"expected a finite number as correct, found 'many'; run `dvc repro`$"):
        read_learning_curve(path)


@pytest.mark.parametrize(("points", "found"), [(POINTS[:-1], 0), ((*POINTS, POINTS[-1]), 2)])
def test_a_row_too_few_or_too_many_is_one_sentence(tmp_path: Path, points: tuple[CurvePoint, ...], found: int) -> None:
    write_learning_curve(tmp_path / "curve.csv", points)
    with pytest.raises(
        DataError, match=rf"expected one row of share 1\.0 of fold 4, .*, found {found}; delete it and run `dvc repro`$"
    ):
        read_learning_curve(tmp_path / "curve.csv")
