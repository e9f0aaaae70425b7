"""label_issues.csv: for each image that is not test, whether its label may be wrong; the writer beside the reader."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from thaw.utils.records import parse_number, read_rows, write_rows

COLUMNS = ("path", "label", "likely_label", "p_label", "p_likely_label", "rank")


@dataclass(frozen=True, kw_only=True)
class CheckedLabel:
    """What heads that did not see an image say of its label."""

    path: str

    label: str
    """As given."""

    likely_label: str
    """The most probable one."""

    p_label: float
    """The probability of the label as given."""

    p_likely_label: float

    rank: int | None
    """1 for the label that is most probably wrong, 2 for the next; None for those that are probably right."""


def write_label_issues(path: Path, rows: Iterable[CheckedLabel]) -> None:
    """Write a row an image."""
    write_rows(
        path,
        COLUMNS,
        (
            (
                row.path,
                row.label,
                row.likely_label,
                f"{row.p_label:.9g}",
                f"{row.p_likely_label:.9g}",
                "" if row.rank is None else row.rank,
            )
            for row in rows
        ),
    )


def read_label_issues(path: Path) -> tuple[CheckedLabel, ...]:
    """Read what `write_label_issues` wrote; DataError if it is missing or is something else."""
    return tuple(
        CheckedLabel(
            path=row["path"],
            label=row["label"],
            likely_label=row["likely_label"],
            p_label=parse_number(path, row, "p_label"),
            p_likely_label=parse_number(path, row, "p_likely_label"),
            rank=int(parse_number(path, row, "rank")) if row["rank"] else None,
        )
        for row in read_rows(path, COLUMNS, stage="diagnose")
    )
