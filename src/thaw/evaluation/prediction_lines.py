"""Predictions as lines of text: a table for people, CSV for spreadsheets, JSON for programs.

Names are anybody's: what would steer a terminal or a spreadsheet is escaped.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thaw.errors import escape_controls

Format = Literal["table", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = ("table", "csv", "jsonl")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
            "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
"""What a spreadsheet may take for the start of a formula: https://owasp.org/www-community/attacks/CSV_Injection"""
_MAX_PATH_COLUMNS = 72
"""Of a terminal; a longer path moves its own line alone."""

Line = Callable[[Path, NDArray[np.float64]], str]
"""A path and the probability of each class, shape `(C,)` -> a line, with its end."""


def format_lines(kind: Format, *, classes: Sequence[str], files: Sequence[Path]) -> tuple[str, Line]:
    """The line above all predictions, which may be empty, and what makes a line of each.

    Args:
        kind: `table`: path, most probable class, its probability. `csv`: the columns of predictions.csv but the label.
            `jsonl`: an object a line, of `path`, `predicted` and `probabilities`, all names exact.
        classes: in the order of the probabilities.
        files: all that will be predicted, from which a table has its widths.
    """
    if kind == "csv":
        return _csv_line(["path", "predicted", *(f"p_{name}" for name in classes)]), (
            lambda path, row: _csv_line([str(path), classes[row.argmax()], *(f"{p:.9g}" for p in row)])
        )
    if kind == "jsonl":
        return "", lambda path, row: _json_line(
            {
                "path": str(path),
                "predicted": classes[row.argmax()],
                "probabilities": {name: float(f"{p:.9g}") for name, p in zip(classes, row, strict=True)},
            }
        )
    path_columns = min(_MAX_PATH_COLUMNS, max((_columns(escape_controls(str(path))) for path in files), default=0))
    class_columns = max(_columns(escape_controls(name)) for name in ("class", *classes))

    def line(path: str, name: str, probability: str) -> str:
        return f"{_pad(path, path_columns)}  {_pad(name, class_columns)}  {probability:>11}\n"

    header = line("image", "class", "probability")
    return header, lambda path, row: line(str(path), classes[row.argmax()], f"{row.max():.1%}")


def _csv_line(cells: Sequence[str]) -> str:
    """A line of CSV in which no cell is a formula."""
    buffer = io.StringIO()
    safe = (f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in map(escape_controls, cells))
    csv.writer(buffer, lineterminator="\n").writerow(safe)
    return buffer.getvalue()


def _json_line(value: object) -> str:
    r"""A line of JSON; what has no place on a terminal is written as JSON's own \u escapes, so that nothing is lost."""
    text = json.dumps(value, ensure_ascii=False)
    return escape_controls(text, escape=lambda character: json.dumps(character)[1:-1]) + "\n"


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _pad(text: str, columns: int) -> str:
    shown = escape_controls(text)
    return shown + " " * (columns - _columns(shown))
