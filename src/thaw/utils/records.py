"""JSON, CSV and safetensors files of a fixed schema: whoever reads one is told in a sentence what is wrong with it."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from thaw.errors import DataError, one_line
from thaw.utils.atomic import new_file, write_json


class Record(BaseModel):
    """What a JSON file holds; keys that are not known are let through."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


AnyRecord = TypeVar("AnyRecord", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Write a record as indented JSON."""
    write_json(path, record.model_dump(mode="json"))


def read_record(path: Path, kind: type[AnyRecord], *, stage: str) -> AnyRecord:
    """Read what `write_record` wrote.

    Raises:
        DataError: the file, which `stage` writes, is missing, is no JSON, or lacks a key.
    """
    try:
        return kind.model_validate_json(_require_file(path, stage).read_bytes())
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise DataError(f"{path}: {where and f'{where}: '}{detail['msg']}; delete it and run `dvc repro`") from None


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header, in UTF-8 and with Unix line ends on every platform."""
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_rows(path: Path, columns: Sequence[str], *, stage: str, may_be_empty: bool = False) -> list[dict[str, str]]:
    """Read what `write_rows` wrote: for each row the text of each column.

    Raises:
        DataError: the file, which `stage` writes, is missing, is no CSV, lacks one of `columns`, has a row that is cut
            short, or has no rows (unless it may be empty).
    """
    try:
        with _require_file(path, stage).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column {missing[0]!r}; delete it and run `dvc repro`")
            rows = list(reader)
            cut = next((number for number, row in enumerate(rows, start=1) if None in row.values()), None)
            if cut is not None:
                raise DataError(f"{path} has too few cells in row {cut}; delete it and run `dvc repro`")
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file ({error}); delete it and run `dvc repro`") from None
    if not rows and not may_be_empty:
        raise DataError(f"{path} has no rows; delete it and run `dvc repro`")
    return rows


def parse_number(path: Path, row: dict[str, str], column: str) -> float:
    """A finite number in a row of the CSV file `path`; DataError if there is none."""
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{path}: expected a finite number as {column}, found {row[column]!r}; run `dvc repro`")
    return value


@contextmanager
def open_tensors(path: Path, *, framework: Literal["numpy", "pt"], stage: str) -> Iterator[Any]:
    """Yield the opened safetensors file, which `stage` writes; whatever is wrong with what is read of it is said.

    Raises:
        DataError: the file is missing, is no such file, or lacks what the block asks for.
    """
    try:
        with safe_open(_require_file(path, stage), framework=framework) as file:
            yield file
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise DataError(f"{path} is damaged ({one_line(error)}); delete it and run `dvc repro`") from None


def _require_file(path: Path, stage: str) -> Path:
    try:
        lack = "" if path.is_file() else "is no file" if path.exists() else "does not exist"
    except OSError as error:  # a folder on the way may not be looked into, or the name is too long
        raise DataError(f"{path} cannot be read ({error.strerror}); correct the path") from None
    if lack:
        raise DataError(f"{path} {lack}: run `dvc repro`, which runs the stage {stage}")
    return path
