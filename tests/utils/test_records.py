"""Records and rows: what is written comes back, and what is missing or damaged is one sentence.

Run with `pytest tests/utils/test_records.py`.
"""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from thaw.errors import DataError
from thaw.utils.records import Record, parse_number, read_record, read_rows, write_record, write_rows


class Point(Record):
    x: float
    y: float


class Line(Record):
    name: Literal["thick", "thin"]
    points: tuple[Point, ...]


LINE = Line(name="thin", points=(Point(x=0.1, y=1 / 3), Point(x=-0.0, y=1e300)))


def test_a_record_comes_back_to_the_bit(tmp_path: Path) -> None:
    write_record(tmp_path / "new" / "line.json", LINE)
    assert read_record(tmp_path / "new" / "line.json", Line, stage="draw") == LINE


def test_a_record_is_written_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_record(tmp_path / name, LINE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_record_has_no_nan() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Point(x=float("nan"), y=0.0)


def test_a_key_of_a_later_release_is_let_through(tmp_path: Path) -> None:
    (tmp_path / "point.json").write_text('{"x": 1.0, "y": 2.0, "z": 3.0}')
    assert read_record(tmp_path / "point.json", Point, stage="draw") == Point(x=1.0, y=2.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line.json: Invalid JSON"),
        ('{"name": "thin"', "line.json: Invalid JSON"),
        ("[]", "line.json: Input should be an object"),
        ('{"name": "thin"}', "line.json: points: Field required"),
        ('{"name": "thin", "points": [{"x": 1.0}]}', "line.json: points.0.y: Field required"),
        ('{"name": "thin", "points": [{"x": "1", "y": 2.0}]}', "line.json: points.0.x: Input should be a valid number"),
        ('{"name": "red", "points": []}', "line.json: name: Input should be 'thick' or 'thin'"),
    ],
)
def test_a_damaged_record_is_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "line.json").write_text(text)
    with pytest.raises(DataError) as caught:
        read_record(tmp_path / "line.json", Line, stage="draw")
    assert complaint in str(caught.value)
    assert str(caught.value).endswith("; delete it and run `dvc repro`")
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_stage(tmp_path: Path) -> None:
    complaint = r"missing does not exist: run `dvc repro`, which runs the stage draw"
    with pytest.raises(DataError, match=complaint):
        read_record(tmp_path / "missing", Line, stage="draw")
    with pytest.raises(DataError, match=complaint):
        read_rows(tmp_path / "missing", ["a"], stage="draw")


def test_a_path_that_cannot_be_looked_at_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"xx cannot be read \(File name too long\); correct the path$"):
        read_record(tmp_path / ("x" * 300), Line, stage="draw")


def test_rows_come_back_as_text(tmp_path: Path) -> None:
    write_rows(tmp_path / "new" / "a.csv", ["name", "size"], [("Köter, groß", 1), ('"x"\ny', 0.1 + 0.2)])
    assert (tmp_path / "new" / "a.csv").read_bytes().startswith(b"name,size\n")
    assert read_rows(tmp_path / "new" / "a.csv", ["size", "name"], stage="draw") == [
        {"name": "Köter, groß", "size": "1"},
        {"name": '"x"\ny', "size": "0.30000000000000004"},
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has no column 'name'"),
        (b"name\nx\n", "has no column 'size'"),
        (b"name,size\n", "has no rows"),
        (b"name,size\n\xff,1\n", "is not a CSV file"),
        (b'name,size\n"x,1\n', "is not a CSV file"),
    ],
)
def test_damaged_rows_are_one_sentence(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.csv {complaint}.*; delete it and run `dvc repro`"):
        read_rows(tmp_path / "a.csv", ["name", "size"], stage="draw")


def test_a_number_in_a_row_comes_back_to_the_bit() -> None:
    assert parse_number(Path("a.csv"), {"loss": "0.30000000000000004"}, "loss") == 0.1 + 0.2


@pytest.mark.parametrize("text", ["", "nan", "inf", "one"])
def test_a_cell_without_a_number_is_one_sentence(text: str) -> None:
    with pytest.raises(DataError, match=f"a.csv: expected a finite number as loss, found '{text}'"):
        parse_number(Path("a.csv"), {"loss": text}, "loss")
