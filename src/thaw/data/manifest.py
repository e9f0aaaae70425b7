"""manifest.csv: one row for each file of the unzipped folder, kept or dropped, and why."""

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath

from thaw import paths
from thaw.errors import DataError
from thaw.utils.atomic import new_file
from thaw.utils.words import count


class Reason(StrEnum):
    """Why a file was dropped: the closed vocabulary of the manifest's column `reason`."""

    EMPTY = "empty file"
    NOT_AN_IMAGE = "not an image"
    TRUNCATED = "truncated"
    BROKEN = "broken"
    TOO_MANY_PIXELS = "too many pixels"
    UNSUPPORTED = "unsupported format"
    TOO_SMALL = "too small"
    LABEL_CONFLICT = "label conflict"
    NO_CLASS = "not in a class folder"
    NO_LABEL = "no label"
    TRAINED_ON = "copy of a training image"
    SYSTEM_FILE = "system file"
    REFUSED = "refused entry"


EXPLANATIONS = {
    Reason.EMPTY: "the file holds no bytes",
    Reason.NOT_AN_IMAGE: "the file does not start like an AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF or WebP, whatever its "
    "name is",
    Reason.TRUNCATED: "the file ends before its image does",
    Reason.BROKEN: "the file starts like an image, but its pixels cannot be decoded",
    Reason.TOO_MANY_PIXELS: "the image has more pixels than clean.max_pixels, and was not decoded",
    Reason.UNSUPPORTED: "the file is an image of a format that is not read (HEIC, JPEG XL, JPEG 2000, ...): "
    "convert it; the manifest's note says which",
    Reason.TOO_SMALL: "the image's short side is below clean.min_side_px",
    Reason.LABEL_CONFLICT: "the same image is there under another label, so nobody knows which one is right",
    Reason.NO_CLASS: "the file lies beside the class folders, or nothing in its folder can be decoded",
    Reason.NO_LABEL: "nothing says what it shows: it lies in a folder of test images without class folders, "
    "or no line of the table of labels names it",
    Reason.TRAINED_ON: "the same image, exactly or nearly, is in train or val: it would tell nothing new",
    Reason.SYSTEM_FILE: "a system, an editor or a storage box left it there (Thumbs.db, __MACOSX, .git, @eaDir, ...)",
    Reason.REFUSED: "it was not unpacked, since it is no plain file, or its name leads elsewhere; the manifest's note "
    "says which",
}
ONE_COLOUR = "all of one colour"
"""A note on an image that shows nothing: kept, and counted, since nearly always something went wrong."""
_RENAMED = " in the archive: "


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What is known about one file; `width_px` to `exif_orientation` are None where it cannot be decoded."""

    path: str
    """Relative to the unzipped folder, with forward slashes."""
    label: str
    """The class, as `thaw.data.layouts` reads it; empty if there is none, or nobody knows it."""
    bytes: int
    sha256: str
    """Of the file."""
    width_px: int | None = None
    """Of the file as it is stored, before it is turned upright."""
    height_px: int | None = None
    mode: str | None = None
    format: str | None = None
    exif_orientation: int | None = None
    kept: bool
    reason: str = ""
    """Empty if kept, else a Reason."""
    damage: str = ""
    """Empty, or what is wrong with the file of an image that is decoded all the same (`decode.Damage`)."""
    pixels_sha256: str = ""
    """Of the decoded upright RGB pixels, width and height; empty where it is undecodable."""
    duplicate_group: str = ""
    """The smallest path of the group of images that are duplicates of one another; empty if there is no other."""
    duplicate_kind: str = ""
    """exact: another image of the group has the same pixels; near: none has; empty: no group."""
    label_source: str = ""
    """What says the label: `folder`, `file names`, or the table of labels; empty without a label."""
    split: str = ""
    """train, val or test, if a folder or a table gives it; empty if it is to be drawn."""
    note: str = ""
    """How the entry was called in the archive if it had to be renamed; why it was refused; which format is not read;
    how the samples of an image were scaled, that it is the first of several frames, ONE_COLOUR. Joined by `; `."""


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


def note_name(name: str, why: str) -> str:
    """The note on an entry that is called otherwise in the archive."""
    return f"{name!r}{_RENAMED}{why}"


def is_renamed(row: Row) -> bool:
    """Whether the file is called otherwise in the archive."""
    return _RENAMED in row.note and row.reason != Reason.REFUSED


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows, sorted by path, as CSV."""
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted(rows, key=lambda row: row.path):
            values = (getattr(row, column) for column in COLUMNS)
            writer.writerow(str(value).lower() if isinstance(value, bool) else value for value in values)


def read_manifest(path: Path) -> list[Row]:
    """Read what `write_manifest` wrote; raise DataError if it is missing or something else."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_parse_row(values) for values in csv.DictReader(file, strict=True)]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: run the clean stage") from None
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is no manifest ({error}): delete it and run the clean stage again") from None


def summarise(rows: Sequence[Row], *, manifest: Path = paths.MANIFEST) -> str:
    """What was kept and what was dropped, in one line; `manifest` is the file that the rows stand in."""
    kept = [row for row in rows if row.kept]
    groups = {row.duplicate_group for row in kept} - {""}
    return (
        f"kept {len(kept):,} of {len(rows):,} files, {len(groups):,} groups of duplicates among them; "
        f"dropped: {list_dropped(rows) or 'none'} ({manifest} says which)"
    )


def list_dropped(rows: Iterable[Row]) -> str:
    """`3 broken, 12 no label`: the files that are not kept, by their reason; empty if all are."""
    reasons = Counter(row.reason for row in rows if not row.kept)
    return ", ".join(f"{files:,} {reason}" for reason, files in sorted(reasons.items()))


def count_reasons(rows: Iterable[Row]) -> dict[str, int]:
    """Files that are not kept, for each reason, the most frequent first."""
    reasons = Counter(row.reason for row in rows if not row.kept)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def describe_images(rows: Sequence[Row], *, given: Collection[str] | None = None) -> str:
    """What the images are, as the files were understood, in one line.

    `12,498 images in 2 classes (Cat 6,249, Dog 6,249), split drawn; 12 unlabelled in test/ left aside`

    Args:
        rows: the manifest.
        given: the splits that were not drawn; None: those that the manifest gives.
    """
    kept = [row for row in rows if row.kept]
    counts = Counter(row.label for row in kept)
    if given is None:
        given = {row.split for row in kept} & {"val", "test"}
    text = f"{count(len(kept), 'image')} in {count(len(counts), 'class', 'classes')}"
    if counts:
        text += f" ({list_counts(counts)})"
    sources = sorted({row.label_source for row in kept} - {"folder", ""})
    if sources:
        text += f", labels from {' and '.join(sources)}"
    text += f", {' and '.join(sorted(given, reverse=True))} given" if given else ", split drawn"
    return "; ".join([text, *_describe_left_aside(rows)])


def _describe_left_aside(rows: Sequence[Row]) -> Iterator[str]:
    unlabelled = [row.path for row in rows if row.reason == Reason.NO_LABEL]
    if unlabelled:
        folder = os.path.commonpath([str(PurePosixPath(path).parent) for path in unlabelled])
        yield f"{len(unlabelled):,} unlabelled {f'in {folder}/ ' if folder not in ('', '.') else ''}left aside"
    beside = sum(row.reason == Reason.NO_CLASS and row.width_px is not None for row in rows)
    if beside:
        yield f"{count(beside, 'image')} beside the class folders left aside"
    refused = sum(row.reason == Reason.REFUSED for row in rows)
    if refused:
        yield f"{count(refused, 'entry', 'entries')} of the archive refused"
    unsupported = Counter(row.note.partition(":")[0] for row in rows if row.reason == Reason.UNSUPPORTED)
    for what, files in sorted(unsupported.items()):
        yield f"{count(files, what)} not supported"
    one_colour = sum(row.kept and ONE_COLOUR in row.note for row in rows)
    if one_colour:
        yield f"{count(one_colour, 'image')} {ONE_COLOUR}, which is nearly always an error (kept)"
    renamed = sum(is_renamed(row) for row in rows)
    if renamed:
        yield f"{count(renamed, 'entry', 'entries')} of the archive renamed"


def list_counts(counts: Mapping[str, int], *, most: int = 12) -> str:
    """`Cat 6,249, Dog 6,249`; of many, the first ones by name."""
    shown = [f"{label} {files:,}" for label, files in sorted(counts.items())[:most]]
    return ", ".join(shown + (["..."] if len(counts) > most else []))


def _parse_row(values: dict[str, str]) -> Row:
    return Row(
        path=values["path"],
        label=values["label"],
        bytes=int(values["bytes"]),
        sha256=values["sha256"],
        width_px=_parse_optional(values["width_px"]),
        height_px=_parse_optional(values["height_px"]),
        mode=values["mode"] or None,
        format=values["format"] or None,
        exif_orientation=_parse_optional(values["exif_orientation"]),
        kept={"true": True, "false": False}[values["kept"]],
        reason=values["reason"],
        damage=values["damage"],
        pixels_sha256=values["pixels_sha256"],
        duplicate_group=values["duplicate_group"],
        duplicate_kind=values["duplicate_kind"],
        label_source=values["label_source"],
        split=values["split"],
        note=values["note"],
    )


def _parse_optional(text: str) -> int | None:
    return int(text) if text else None
