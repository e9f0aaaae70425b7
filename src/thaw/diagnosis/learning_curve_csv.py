"""learning_curve.csv: how many images heads get right after training on so many; the writer beside the reader."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from itertools import product
from pathlib import Path

from thaw.errors import DataError
from thaw.utils.records import parse_number, read_rows, write_rows


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One head, trained on a share of the images of all folds but one, and tested on that one."""

    fold: int
    """Which one, from 0."""

    share: float
    """Of the training images of the other folds that it was trained on, as it was asked for."""

    images: int
    """Training images."""

    tested: int
    """Images of the fold."""

    correct: int
    """How many of them the head gets right."""


COLUMNS = tuple(field.name for field in fields(CurvePoint))


def write_learning_curve(path: Path, points: Iterable[CurvePoint]) -> None:
    """Write a row a head."""
    write_rows(path, COLUMNS, (astuple(point) for point in points))


def read_learning_curve(path: Path) -> tuple[CurvePoint, ...]:
    """Read what `write_learning_curve` wrote; DataError if it is missing, is something else, or lacks rows."""
    rows = read_rows(path, COLUMNS, stage="diagnose")
    points = tuple(
        CurvePoint(
            share=parse_number(path, row, "share"),
            **{name: int(parse_number(path, row, name)) for name in COLUMNS if name != "share"},
        )
        for row in rows
    )
    _require_whole(path, points)
    return points


def _require_whole(path: Path, points: Iterable[CurvePoint]) -> None:
    """Raise DataError unless each fold has each share once."""
    heads = Counter((point.fold, point.share) for point in points)
    folds, shares = (sorted(set(values)) for values in zip(*heads, strict=True))
    for fold, share in product(folds, shares):
        if heads[fold, share] != 1:
            raise DataError(
                f"{path}: expected one row of share {share} of fold {fold}, as other folds and shares have, found "
                f"{heads[fold, share]}; delete it and run `dvc repro`"
            )
