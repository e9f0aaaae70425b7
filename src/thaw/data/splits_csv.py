"""splits.csv: which image is in which split, and what it shows; the writer beside the reader."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from thaw.errors import DataError
from thaw.utils.random_streams import shuffle_names
from thaw.utils.records import read_rows, write_rows

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

COLUMNS = ("path", "label", "split", "group", "given")


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """splits.csv in memory; the rows are sorted by path."""

    paths: tuple[str, ...]
    """As in the manifest."""

    labels: tuple[str, ...]
    """The class of each image."""

    splits: tuple[str, ...]
    """One of SPLITS for each image."""

    groups: tuple[str, ...]
    """For each image the name of its group of duplicates; an image without any is a group of its own. Draws
    go by these names."""

    given: frozenset[str] = frozenset()
    """The splits that a folder, a table or a list gives: they are not drawn."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted; a label is an index into them."""
        return tuple(sorted(set(self.labels)))


def write_splits(path: Path, rows: Iterable[tuple[str, str, str, str]], *, given: Collection[str] = ()) -> None:
    """Write a row (path, label, split, group) for each image; the splits in `given` are marked as not drawn."""
    write_rows(path, COLUMNS, ((*row, "true" if row[2] in given else "false") for row in rows))


def read_splits(path: Path) -> SplitTable:
    """Read what `write_splits` wrote; DataError if it is missing or is something else."""
    rows = read_rows(path, COLUMNS, stage="split")
    for row in rows:
        if row["split"] not in SPLITS:
            raise DataError(f"{path}: {row['split']!r} is not a split; expected one of {', '.join(SPLITS)}")
    return SplitTable(
        paths=tuple(row["path"] for row in rows),
        labels=tuple(row["label"] for row in rows),
        splits=tuple(row["split"] for row in rows),
        groups=tuple(row["group"] for row in rows),
        given=frozenset(row["split"] for row in rows if row["given"] == "true"),
    )


def redraw_val(table: SplitTable, *, seed: int) -> SplitTable:
    """Divide train and val anew, as a new draw of the same training images would be; test stays as it is.

    So does all, if the val split is given: there is nothing to draw.

    In each class as many groups of duplicates are val as before, at least one and not all, and groups stay together.
    Which ones depends on the seed, on what they show, on `split.seed`, which is in their names, and on how many there
    are; not on the names of files.
    """
    if "val" in table.given:
        return table
    groups: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"train": set(), "val": set()})
    for label, split, group in zip(table.labels, table.splits, table.groups, strict=True):
        if split != "test":
            groups[label][split].add(group)
    val: set[str] = set()
    for of_class in groups.values():
        ranked = shuffle_names(of_class["train"] | of_class["val"], draw=f"{seed}:val")
        val.update(ranked[: min(max(1, len(of_class["val"])), len(ranked) - 1)])
    splits = tuple(
        split if split == "test" else "val" if group in val else "train"
        for split, group in zip(table.splits, table.groups, strict=True)
    )
    return dataclasses.replace(table, splits=splits)


def thin_train(table: SplitTable, *, fraction: float, seed: int) -> SplitTable:
    """Leave out training images, so that this fraction of each class's groups is left, at least one.

    Which ones depends on the seed and their names; what a smaller fraction has, a larger one has too.
    """
    if fraction == 1:
        return table
    groups: dict[str, set[str]] = defaultdict(set)
    for label, split, group in zip(table.labels, table.splits, table.groups, strict=True):
        if split == "train":
            groups[label].add(group)
    kept: set[str] = set()
    for names in groups.values():
        ranked = shuffle_names(names, draw=f"{seed}:train")
        kept.update(ranked[: max(1, round(fraction * len(ranked)))])
    rows = [row for row, split in enumerate(table.splits) if split != "train" or table.groups[row] in kept]
    return dataclasses.replace(
        table,
        paths=tuple(table.paths[row] for row in rows),
        labels=tuple(table.labels[row] for row in rows),
        splits=tuple(table.splits[row] for row in rows),
        groups=tuple(table.groups[row] for row in rows),
    )


def summarise_splits(path: Path) -> str:
    """How many images each split of a splits.csv has, in one line."""
    counts = Counter(read_splits(path).splits)
    return ", ".join(f"{counts[split]:,} {split}" for split in SPLITS) + f" ({path} says which)"
