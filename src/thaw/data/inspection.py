"""`thaw inspect`: what the pipeline would make of a folder or an archive, by its own stages, without running them."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from thaw.data.clean import judge_files, require_two_classes
from thaw.data.manifest import EXPLANATIONS, ONE_COLOUR, Reason, Row, describe_images, is_renamed
from thaw.errors import DataError
from thaw.ingest.unpack import unpack_archive
from thaw.params import CleanParams, LayoutParams, UnzipParams
from thaw.utils.records import Record
from thaw.utils.words import count

EXAMPLES = 3


class ClassSummary(Record):
    """The files of one class."""

    kept: int
    """Images."""
    train: int
    """Of them, those that a folder or a table gives to train; likewise val and test. The rest is to be drawn."""
    val: int
    test: int
    dropped: int
    """Files of the class that are dropped."""
    median_short_side_px: float
    """Of the kept images."""


class DroppedSummary(Record):
    """The files that are dropped for one reason."""

    files: int
    explanation: str
    examples: tuple[str, ...]
    """Paths of the first ones; with the manifest's note, if there is one."""


class Inspection(Record):
    """What the files are, and what would become of them."""

    path: str
    understood: str
    """Images, classes, given splits and what is left aside; one line."""
    problem: str
    """Why nothing could be trained on them; empty if something can."""
    files: int
    bytes: int
    """Of all files."""
    kept: int
    """Images that would be kept."""
    classes: dict[str, ClassSummary]
    dropped: dict[str, DroppedSummary]
    """Reason -> the files, the most frequent reason first."""
    formats: dict[str, int]
    """Kept images of each format."""
    short_side_px: tuple[int, ...]
    """The smallest and the largest of the kept images; empty without any."""
    damaged_but_kept: int
    """Images that decode although something is wrong with their files."""
    one_colour: int
    """Kept images that show nothing but one colour: nearly always an error."""
    copies_exact: int
    """Kept images of which another kept one has the same pixels."""
    copies_near: int
    """Kept images of which another kept one is nearly the same."""
    groups_of_copies: int
    label_conflicts: tuple[tuple[str, ...], ...]
    """The paths of each group of copies that have more than one label; all are dropped."""
    renamed: dict[str, str]
    """Path -> how it is called in the archive, and why it cannot keep that name."""


def inspect_images(path: Path, *, unzip: UnzipParams, clean: CleanParams, layout: LayoutParams) -> Inspection:
    """Unpack (or copy) to a temporary folder, decode and compare all files, and write nothing.

    Raises:
        DataError: the archive endangers the whole (see `unpack_archive`), or its layout can be read in two ways.
    """
    with tempfile.TemporaryDirectory() as scratch:
        files = unpack_archive(path, Path(scratch, "images"), limits=unzip)
        judged = judge_files(files, params=clean, layout=layout, spool=None)
    return summarise_rows(judged.rows, path=path)


def summarise_rows(rows: Sequence[Row], *, path: Path) -> Inspection:
    """The rows of a manifest -> what `thaw inspect` says of them."""
    kept = [row for row in rows if row.kept]
    sides = [_short_side(row) for row in kept]
    return Inspection(
        path=str(path),
        understood=describe_images(rows),
        problem=_find_problem(rows, path),
        files=len(rows),
        bytes=sum(row.bytes for row in rows),
        kept=len(kept),
        classes={label: _summarise_class(label, rows) for label in sorted({row.label for row in kept})},
        dropped=_summarise_dropped(rows),
        formats=dict(sorted(Counter(row.format or "" for row in kept).items())),
        short_side_px=(min(sides), max(sides)) if sides else (),
        damaged_but_kept=sum(bool(row.damage) for row in kept),
        one_colour=sum(ONE_COLOUR in row.note for row in kept),
        copies_exact=sum(row.duplicate_kind == "exact" for row in kept),
        copies_near=sum(row.duplicate_kind == "near" for row in kept),
        groups_of_copies=len({row.duplicate_group for row in kept} - {""}),
        label_conflicts=_group_conflicts(rows),
        renamed={row.path: row.note for row in rows if is_renamed(row)},
    )


def format_inspection(found: Inspection) -> str:
    """A few lines and two tables for a person at a terminal."""
    return "\n".join(_lines(found))


def _lines(found: Inspection) -> Iterator[str]:
    yield f"{found.path}: {count(found.files, 'file')}, {found.bytes / 1e6:,.1f} MB"
    yield found.understood
    if found.classes:
        yield ""
        given = any(one.val or one.test for one in found.classes.values())
        header = ("class", "kept", *(("train", "val", "test") if given else ()), "dropped", "median short side, px")
        yield from _align(
            [
                header,
                *(
                    (
                        label,
                        f"{one.kept:,}",
                        *((f"{one.train:,}", f"{one.val:,}", f"{one.test:,}") if given else ()),
                        f"{one.dropped:,}",
                        f"{one.median_short_side_px:,.0f}",
                    )
                    for label, one in found.classes.items()
                ),
            ]
        )
    if found.dropped:
        yield ""
        rows = [(reason, f"{one.files:,}", ", ".join(one.examples)) for reason, one in found.dropped.items()]
        yield from _align([("dropped", "files", "for instance"), *rows])
    yield ""
    if found.kept:
        formats = ", ".join(f"{name} {images:,}" for name, images in found.formats.items())
        yield f"formats: {formats}; short side {found.short_side_px[0]:,} to {found.short_side_px[1]:,} px"
    groups = count(found.groups_of_copies, "group")
    yield f"copies: {groups} ({count(found.copies_exact, 'image')} exact, {found.copies_near:,} near)"
    yield f"damaged, but kept: {found.damaged_but_kept:,}; {ONE_COLOUR}, but kept: {found.one_colour:,}"
    for group in found.label_conflicts[:EXAMPLES]:
        yield f"one image, several labels: {', '.join(group)}"
    if len(found.label_conflicts) > EXAMPLES:
        yield f"... and {len(found.label_conflicts) - EXAMPLES:,} more such groups"
    for path, note in list(found.renamed.items())[:EXAMPLES]:
        yield f"renamed: {path} ({note})"
    if len(found.renamed) > EXAMPLES:
        yield f"... and {len(found.renamed) - EXAMPLES:,} more renamed"


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows of a table, whose middle columns hold numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        if not row[-1][:1].isdigit() and rows[0][-1] == "for instance":
            cells[-1] = row[-1]
        yield "  ".join(cells).rstrip()


def _find_problem(rows: Sequence[Row], path: Path) -> str:
    try:
        require_two_classes(rows, str(path))
    except DataError as error:
        return str(error)
    return ""


def _summarise_class(label: str, rows: Iterable[Row]) -> ClassSummary:
    mine = [row for row in rows if row.label == label]
    kept = [row for row in mine if row.kept]
    splits = Counter(row.split for row in kept)
    return ClassSummary(
        kept=len(kept),
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        dropped=len(mine) - len(kept),
        median_short_side_px=median(_short_side(row) for row in kept),
    )


def _summarise_dropped(rows: Iterable[Row]) -> dict[str, DroppedSummary]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not row.kept:
            by_reason[row.reason].append(f"{row.path} ({row.note})" if row.note else row.path)
    return {
        reason: DroppedSummary(
            files=len(paths), explanation=EXPLANATIONS[Reason(reason)], examples=tuple(paths[:EXAMPLES])
        )
        for reason, paths in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    }


def _group_conflicts(rows: Iterable[Row]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.reason == Reason.LABEL_CONFLICT:
            groups[row.duplicate_group or row.path].append(row.path)
    return tuple(tuple(group) for _, group in sorted(groups.items()))


def _short_side(row: Row) -> int:
    assert row.width_px is not None  # it was decoded
    assert row.height_px is not None
    return min(row.width_px, row.height_px)
