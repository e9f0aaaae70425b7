"""history CSV: what is written comes back, and a file that is something else is one sentence.

Run with: pytest tests/training/test_history_csv.py
"""

from pathlib import Path

import pytest

from thaw.errors import DataError
from thaw.training.history_csv import Epoch, History, read_history, write_history

SOLVED = Epoch(
    phase=0,
    train="head",
    epoch=1,
    lr=None,
    penalty=10**-0.5,
    converged=True,
    train_loss=0.1 + 0.2,
    train_accuracy=0.75,
    val_loss=1e-12,
    val_accuracy=1.0,
)
TRAINED = Epoch(
    phase=1, train="last:2", epoch=3, lr=1e-4 / 3, train_loss=0.5, train_accuracy=0.9, val_loss=0.25, val_accuracy=0.8
)
HISTORY = History(epochs=(SOLVED, TRAINED), best=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "frozen-0.csv"
    write_history(path, HISTORY)
    return path


def test_what_is_written_comes_back_to_the_bit(path: Path) -> None:
    assert read_history(path) == HISTORY


def test_the_file_by_hand(path: Path) -> None:
    header, solved, trained = path.read_bytes().decode().split("\n")[:3]
    assert header == "step,phase,train,epoch,lr,penalty,converged,train_loss,train_accuracy,val_loss,val_accuracy,best"
    assert solved == "1,0,head,1,,0.31622776601683794,true,0.30000000000000004,0.75,1e-12,1.0,false"
    assert trained.startswith("2,1,last:2,3,")
    assert trained.endswith(",true")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("val_loss", "lost", "has no column 'val_loss'"),
        ("0.25", "low", "expected a finite number as val_loss, found 'low'"),
        ("0.25", "nan", "expected a finite number as val_loss, found 'nan'"),
        ("0.25", "", "expected a finite number as val_loss, found ''"),
        ("0.31622776601683794", "inf", "expected a finite number as penalty, found 'inf'"),
        ("0.8,true", "0.8,false", "expected one row with best = true, found 0"),
        ("1.0,false", "1.0,true", "expected one row with best = true, found 2"),
    ],
)
def test_a_wrong_file_is_one_sentence(path: Path, old: str, new: str, complaint: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_history(path)
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)
    assert "dvc repro" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_rows_is_one_sentence(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"frozen-0\.csv has no rows; delete it and run `dvc repro`$"):
        read_history(path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv does not exist: run `dvc repro`, which runs the stage train$"):
        read_history(tmp_path / "none.csv")
