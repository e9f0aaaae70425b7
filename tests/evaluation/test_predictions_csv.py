"""predictions CSV: what is written comes back, and a file that is something else is one sentence.

Run with: pytest tests/evaluation/test_predictions_csv.py
"""

from pathlib import Path

import numpy as np
import pytest

from thaw.errors import DataError
from thaw.evaluation.predictions_csv import read_predictions, write_predictions

CLASSES = ("Cat", "Dog", "Emu, big")
PATHS = ("Dog/1.jpg", 'Cat/a, "b".png', "Emu/ü.png")
LABELS = np.array([1, 0, 2])
PROBABILITIES = np.array([[1e-12, 1 - 2e-12, 1e-12], [0.25, 0.25, 0.5], [1 / 3, 1 / 3, 1 / 3]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "frozen-0.csv"
    write_predictions(path, paths=PATHS, labels=LABELS, probabilities=PROBABILITIES, classes=CLASSES)
    return path


def test_what_is_written_comes_back(path: Path) -> None:
    found = read_predictions(path, classes=CLASSES)
    assert found.paths == PATHS
    assert found.labels == ("Dog", "Cat", "Emu, big")
    np.testing.assert_allclose(found.probabilities, PROBABILITIES, rtol=1e-8)
    assert found.predicted.tolist() == [1, 2, 0]  # of equal ones the first


def test_the_file_by_hand(path: Path) -> None:
    header, first, *_ = path.read_bytes().decode().split("\n")
    assert header == 'path,label,predicted,p_Cat,p_Dog,"p_Emu, big"'
    assert first == "Dog/1.jpg,Dog,Dog,1e-12,1,1e-12"


def test_the_order_of_the_classes_is_the_readers(path: Path) -> None:
    found = read_predictions(path, classes=CLASSES[::-1])
    np.testing.assert_allclose(found.probabilities, PROBABILITIES[:, ::-1], rtol=1e-8)
    assert found.predicted.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("p_Dog", "p_Hog", "has no column 'p_Dog'"),
        ("predicted", "guessed", "has no column 'predicted'"),
        ("Dog,Dog", "Dog,Hog", "names the class 'Hog', which data/splits.csv does not have"),
        ("Dog,Dog", "Hog,Dog", "names the class 'Hog', which data/splits.csv does not have"),
        ("0.25,0.25", "0.25,x", "expected a finite number as p_Dog, found 'x'"),
        ("0.25,0.25", "0.25,nan", "expected a finite number as p_Dog, found 'nan'"),
        (",0.25,0.25,0.5", "", "has too few cells in row 2"),
    ],
)
def test_a_wrong_file_is_one_sentence(path: Path, old: str, new: str, complaint: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_predictions(path, classes=CLASSES)
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)
    assert "dvc repro" in str(caught.value)


def test_a_file_without_rows_is_one_sentence(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"frozen-0\.csv has no rows; delete it and run `dvc repro`$"):
        read_predictions(path, classes=CLASSES)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv does not exist: run `dvc repro`, which runs the stage evaluate$"):
        read_predictions(tmp_path / "none.csv", classes=CLASSES)
