"""Predictions as text: exact for programs, safe in a spreadsheet and on a terminal.

Run with: pytest tests/evaluation/test_prediction_lines.py
"""

import csv
import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.evaluation.prediction_lines import FORMATS, format_lines

ROW = np.array([0.25, 0.7499999999, 1e-10])
CLASSES = ("Cat", "=1+2", "猫")


def lines(kind: str, *paths: str, classes: tuple[str, ...] = CLASSES) -> list[str]:
    (known,) = (one for one in FORMATS if one == kind)
    files = [Path(path) for path in paths]
    header, line = format_lines(known, classes=classes, files=files)
    return [header, *(line(file, ROW) for file in files)]


def test_a_table_is_aligned_by_what_is_seen() -> None:
    header, *rows = lines("table", "a.jpg", "猫/猫.jpg", "x" * 80, classes=("Cat", "Köter", "猫"))
    assert header == f"{'image':72}  class  probability\n"
    assert rows == [
        f"{'a.jpg':72}  Köter        75.0%\n",
        f"{'猫/猫.jpg':70}  Köter        75.0%\n",
        f"{'x' * 80}  Köter        75.0%\n",
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\N{FULLWIDTH EQUALS SIGN}"])
def test_a_spreadsheet_takes_no_name_for_a_formula(start: str) -> None:
    name = f"{start}HYPERLINK(1),2.jpg"
    header, row = csv.reader(io.StringIO("".join(lines("csv", name))))
    assert header == ["path", "predicted", "p_Cat", "p_=1+2", "p_猫"]
    assert row == [f"'{name}", "'=1+2", "0.25", "0.75", "1e-10"]


def test_a_tab_is_written_out_before_it_can_start_a_cell() -> None:
    assert lines("csv", "\t=1.jpg")[1].startswith("\\t=1.jpg,")


@given(st.text(st.characters(exclude_characters="\0/"), min_size=1), st.sampled_from(FORMATS))
def test_no_name_ends_a_line_or_steers_a_terminal(name: str, kind: str) -> None:
    header, line = lines(kind, name, classes=("Cat", name, "Dog"))
    for text in (header, line):
        assert all(
            unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "\u200c\u200d"
            for character in text.removesuffix("\n")
        )
        assert len(text.splitlines()) == text.count("\n")
        text.encode()
    if kind == "jsonl":
        found = json.loads(line)
        assert (found["path"], found["predicted"]) == (str(Path(name)), name)
