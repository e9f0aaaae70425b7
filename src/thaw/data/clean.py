"""A folder of files -> manifest.csv, which says what each is, and images.zip, which holds the images to keep."""

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from thaw.compute.cores import Item, Result, count_cores, map_ahead
from thaw.data.decode import Fault, Pixels, UndecodableError, decode_image
from thaw.data.duplicates import THUMBNAIL_SIDE_PX, find_groups, fingerprint
from thaw.data.image_zip import encode_for_storage, write_images
from thaw.data.known_archives import require_known_counts
from thaw.data.labels_csv import LabelTable, read_label_tables
from thaw.data.layouts import Place, is_system_file, read_layout
from thaw.data.manifest import ONE_COLOUR, Reason, Row, list_dropped, note_name, write_manifest
from thaw.errors import DataError
from thaw.ingest.checksums import list_files, read_file
from thaw.ingest.odd_entries import OddEntry
from thaw.params import AS_FOUND, CleanParams, LayoutParams
from thaw.utils.atomic import new_file
from thaw.utils.progress import progress

AHEAD_PER_THREAD = 4
Relabel = Callable[[list[Row], NDArray[np.uint64], NDArray[np.uint8]], list[Row]]
"""Labelled rows, and hashes and thumbnails of their images, before these are compared -> what becomes of the rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inspection:
    """What one look at one file found out."""

    row: Row
    """As if the file had a label, and no duplicates."""
    stored: bytes = b""
    """What images.zip or dropped.zip gets; empty if the file does not decode."""
    perceptual_hash: int = 0
    thumbnail: Pixels | None = None


def clean_images(
    folder: Path,
    *,
    params: CleanParams,
    manifest: Path,
    images: Path,
    dropped: Path,
    archive_sha256: str = "",
    layout: LayoutParams = AS_FOUND,
    odd: Sequence[OddEntry] = (),
    name: str | None = None,
) -> None:
    """Decode every file under `folder`.

    Writes the manifest, `images` with the images to keep, and `dropped`.

    Which class a file belongs to, `thaw.data.layouts` says. images.zip holds upright RGB images with a short side of
    at most `params.side_px`, under their paths in the manifest, sorted, stored without compression, and the same byte
    for byte in every run: a plain JPEG or PNG that is small enough as it is, other lossless images as PNG if they
    need not shrink, and all else as JPEG of quality 95 without chroma subsampling. dropped.zip holds, in the same form,
    the images that decode but are dropped (too small, say, or under two labels), so that people can look at them.

    `archive_sha256` is the hash of the archive that the folder came from: if something is known of that archive, it
    must be found. Empty: nothing is known. `layout` overrules what is found of the layout; `odd` are the entries that
    were not unpacked as they stand in the archive, which messages call `name`.

    Raises:
        DataError: the layout can be read in two ways, fewer than two classes would be left, a file cannot be read, or
            a known archive holds what it should not. Nothing is written then.
    """
    name = name or str(folder)
    images.parent.mkdir(parents=True, exist_ok=True)
    # Which images are kept is known once all are compared; until then they wait in a file without a name.
    with tempfile.TemporaryFile(dir=images.parent) as spool:
        rows, ends = judge_files(folder, params=params, layout=layout, odd=odd, name=name, spool=spool)
        require_two_classes(rows, name)
        require_known_counts(rows, archive_sha256=archive_sha256)
        with new_file(dropped) as temporary:
            write_images(temporary, stored_images(rows, kept=False, spool=spool, ends=ends))
        with new_file(images) as temporary:
            write_images(temporary, stored_images(rows, kept=True, spool=spool, ends=ends))
        write_manifest(manifest, rows)


def judge_files(
    folder: Path,
    *,
    params: CleanParams,
    layout: LayoutParams,
    odd: Sequence[OddEntry],
    name: str,
    spool: IO[bytes] | None,
    relabel: Relabel = lambda rows, *_: rows,
) -> tuple[list[Row], list[int]]:
    """Say of each file under `folder` what it is, and whether it is kept.

    Writes the images in their stored form to `spool`, one after the other, unless it is None. `relabel` may change
    labels and drop images before duplicates are looked for.

    Returns:
        The manifest's rows: those of the files, sorted by path, and then those of the entries that were refused; and
        for each of the former where its image ends in the spool.

    Raises:
        DataError: the layout can be read in two ways, or a file cannot be read.
    """
    paths = list_files(folder)
    rows: list[Row] = []
    ends: list[int] = []
    hashes = np.zeros(len(paths), dtype=np.uint64)
    thumbnails = np.zeros((len(paths), THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), dtype=np.uint8)
    with progress("clean", total=len(paths), unit="files") as bar:
        looks = map_in_threads(lambda path: _inspect(folder, path, params, store=spool is not None), paths)
        for i, seen in enumerate(looks):
            rows.append(seen.row)
            if spool is not None:
                spool.write(seen.stored)
                ends.append(spool.tell())
            hashes[i] = seen.perceptual_hash
            if seen.thumbnail is not None:
                thumbnails[i] = seen.thumbnail
            bar.update()
    rows = _label_rows(rows, layout=layout, tables=read_label_tables(folder, paths, beside=layout.table), name=name)
    rows = relabel(rows, hashes, thumbnails)
    rows = _group_duplicates(
        rows, hashes=hashes, thumbnails=thumbnails, max_hamming_distance=params.max_hamming_distance
    )
    return _add_odd_entries(rows, odd), ends


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` over all cores, lazily: only a few results are computed ahead, so memory does not grow with `items`.

    Threads, since decoding, shrinking, encoding and hashing all release Python's lock.
    """
    threads = count_cores()
    with ThreadPoolExecutor(threads) as pool:
        yield from map_ahead(pool, function, items, ahead=threads * AHEAD_PER_THREAD)


def _inspect(folder: Path, path: str, params: CleanParams, *, store: bool) -> _Inspection:
    """Read, decode and measure one file; encode it for images.zip if it is to be stored."""
    data = read_file(folder / path)
    row = Row(
        path=path,
        label="",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        kept=False,
    )
    if is_system_file(path):
        return _Inspection(row=dataclasses.replace(row, reason=Reason.SYSTEM_FILE))
    try:
        decoded = decode_image(data, max_pixels=params.max_pixels)
    except UndecodableError as error:
        note = error.detail if error.fault is Fault.UNSUPPORTED else ""
        return _Inspection(row=dataclasses.replace(row, reason=Reason(error.fault), note=note))
    too_small = min(decoded.width_px, decoded.height_px) < params.min_side_px
    row = dataclasses.replace(
        row,
        width_px=decoded.width_px,
        height_px=decoded.height_px,
        mode=decoded.mode,
        format=decoded.format,
        exif_orientation=decoded.exif_orientation,
        damage=decoded.damage or "",
        pixels_sha256=_hash_pixels(decoded.pixels),
        kept=not too_small,
        reason=Reason.TOO_SMALL if too_small else "",
    )
    # Of the whole image: what is a duplicate must not depend on how images are stored.
    perceptual_hash, thumbnail = fingerprint(decoded.pixels)
    notes = [*decoded.notes, *([ONE_COLOUR] if _is_of_one_colour(decoded.pixels, thumbnail) else [])]
    row = dataclasses.replace(row, note="; ".join(notes))
    return _Inspection(
        row=row,
        stored=encode_for_storage(decoded, data, side_px=params.side_px) if store else b"",
        perceptual_hash=perceptual_hash,
        thumbnail=thumbnail,
    )


def _is_of_one_colour(pixels: Pixels, thumbnail: Pixels) -> bool:
    # The thumbnail, a hundredth of the work, rules out nearly all.
    return bool((thumbnail == thumbnail[0, 0]).all()) and bool((pixels == pixels[0, 0]).all())


def _hash_pixels(pixels: Pixels) -> str:
    """SHA-256 of the shape and the pixels: a 2 x 8 and a 4 x 4 image of one colour are two images."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _label_rows(rows: list[Row], *, layout: LayoutParams, tables: Sequence[LabelTable], name: str) -> list[Row]:
    """Give each file its class and, where there is one, its given split; drop what has no class for where it lies."""
    places = read_layout(
        [row.path for row in rows],
        images={row.path for row in rows if row.pixels_sha256},
        kind=layout.layout,
        classes=layout.classes,
        tables=tables,
        name=name,
    )
    return [_label_row(row, places[row.path]) for row in rows]


def _label_row(row: Row, place: Place) -> Row:
    # That two tables contradict each other is of no interest where the image is broken.
    reason = row.reason if place.reason == Reason.LABEL_CONFLICT and row.reason else place.reason or row.reason
    return dataclasses.replace(
        row,
        label=place.label,
        label_source=place.label_source,
        split=place.split,
        kept=row.kept and not place.reason,
        reason=reason,
    )


def _add_odd_entries(rows: list[Row], odd: Sequence[OddEntry]) -> list[Row]:
    """Note on each file under which name it came, and add a row for each entry that was refused."""
    by_path = {row.path: row for row in rows}
    refused = []
    for entry in odd:
        if entry.path in by_path:
            row = by_path[entry.path]
            notes = [note_name(entry.name, entry.why), row.note]
            by_path[entry.path] = dataclasses.replace(row, note="; ".join(note for note in notes if note))
        elif not entry.path:
            path, number = entry.name, 2
            while path in by_path:
                path, number = f"{entry.name} ({number})", number + 1
            reason = Reason.SYSTEM_FILE if is_system_file(path) else Reason.REFUSED
            row = Row(path=path, label="", bytes=0, sha256="", kept=False, reason=reason, note=entry.why)
            by_path[path] = row
            refused.append(path)
    return [by_path[path] for path in [*(row.path for row in rows), *refused]]


def _group_duplicates(
    rows: list[Row], *, hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], max_hamming_distance: int
) -> list[Row]:
    """Fill in the duplicate columns of the kept rows, and drop the groups that have more than one label."""
    kept = [i for i, row in enumerate(rows) if row.kept]
    if not kept:
        return rows
    first = find_groups(
        [rows[i].pixels_sha256 for i in kept],
        hashes=hashes[kept],
        thumbnails=thumbnails[kept],
        max_hamming_distance=max_hamming_distance,
    )
    groups: dict[int, list[int]] = {}
    for index, first_index in zip(kept, first.tolist(), strict=True):
        groups.setdefault(kept[first_index], []).append(index)
    result = list(rows)
    for members in groups.values():
        if len(members) > 1:
            for index, row in zip(members, _mark_group([rows[i] for i in members]), strict=True):
                result[index] = row
    return result


def _mark_group(members: list[Row]) -> list[Row]:
    """The same rows as one duplicate group; `members` are sorted by path."""
    conflict = len({row.label for row in members}) > 1
    pixels = [row.pixels_sha256 for row in members]
    return [
        dataclasses.replace(
            row,
            duplicate_group=members[0].path,
            duplicate_kind="exact" if pixels.count(row.pixels_sha256) > 1 else "near",
            kept=not conflict,
            reason=Reason.LABEL_CONFLICT if conflict else "",
        )
        for row in members
    ]


def require_two_classes(rows: Sequence[Row], name: str) -> None:
    """Raise DataError unless images of two classes or more are kept; it says what became of the others."""
    classes = sorted({row.label for row in rows if row.kept})
    dropped = list_dropped(rows) or "no file"
    remedy = "say in data.layout and data.labels where the labels are, or give one folder of images a class"
    if not classes:
        raise DataError(f"{name} leaves no sound image with a class (dropped: {dropped}): {remedy}")
    if len(classes) == 1:
        raise DataError(
            f"{name} leaves sound images of one class only, {classes[0]!r} (dropped: {dropped}): {remedy}, "
            "for two classes or more"
        )


def stored_images(rows: list[Row], *, kept: bool, spool: IO[bytes], ends: list[int]) -> Iterator[tuple[str, bytes]]:
    """The images that are kept, or the others, by path; row i's bytes in the spool end at `ends[i]`."""
    for row, start, end in zip(rows, [0, *ends], ends, strict=False):
        if row.kept == kept and end > start:
            spool.seek(start)
            yield row.path, spool.read(end - start)
