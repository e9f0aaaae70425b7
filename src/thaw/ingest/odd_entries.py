"""images.odd.csv: the entries of an archive that were refused, or unpacked under another name; writer beside reader."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from thaw.utils.records import read_rows, write_rows

COLUMNS = ("name", "path", "why")


@dataclass(frozen=True, kw_only=True, slots=True)
class OddEntry:
    """One entry that is not unpacked as it stands in the archive."""

    name: str
    """As it stands there; what cannot be printed is replaced."""
    path: str
    """Where it was unpacked to, relative to the folder; empty: it was refused."""
    why: str
    """What is odd about it."""


def write_odd_entries(path: Path, entries: Iterable[OddEntry]) -> None:
    """Write a row an entry, in the order of the archive."""
    write_rows(path, COLUMNS, (astuple(entry) for entry in entries))


def read_odd_entries(path: Path) -> list[OddEntry]:
    """Read what `write_odd_entries` wrote; DataError if it is missing or is something else."""
    return [OddEntry(**row) for row in read_rows(path, COLUMNS, stage="unzip", may_be_empty=True)]
