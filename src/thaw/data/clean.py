"""A folder of files -> manifest.csv, which says what each is, and images.zip, which holds the images to keep."""

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from thaw.compute.cores import Item, Result, count_cores, map_ahead
from thaw.data.decode import Fault, Pixels, UndecodableError, decode_image
from thaw.data.duplicates import THUMBNAIL_SIDE_PX, Fingerprints, find_groups, fingerprint
from thaw.data.fingerprints import write_fingerprints
from thaw.data.image_zip import encode_for_storage, write_images
from thaw.data.known_archives import require_known_counts
from thaw.data.labels_csv import read_label_tables
from thaw.data.layouts import Place, is_system_file, read_layout
from thaw.data.manifest import ONE_COLOUR, Reason, Row, list_dropped, note_name, write_manifest
from thaw.errors import DataError
from thaw.ingest.checksums import ChangedFolderError, list_known_files
from thaw.ingest.folder_files import read_file
from thaw.ingest.odd_entries import OddEntry
from thaw.ingest.unpack import Unpacked
from thaw.params import AS_FOUND, CleanParams, LayoutParams
from thaw.utils.atomic import new_file
from thaw.utils.progress import progress

AHEAD_PER_THREAD = 4
Relabel = Callable[[list[Row], Fingerprints], list[Row]]
"""Labelled rows, and the fingerprints of their images, before these are compared -> what becomes of the rows."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of each file."""

    rows: list[Row]
    """Of the manifest: those of N files, sorted by path, and then those of the entries that were refused."""
    ends: list[int]
    """For each file where its image ends in the spool."""
    fingerprints: Fingerprints
    """Of N files; zeros where there is no image."""


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
    files: Unpacked,
    *,
    params: CleanParams,
    manifest: Path,
    images: Path,
    dropped: Path,
    fingerprints: Path | None = None,
    archive_sha256: str = "",
    layout: LayoutParams | None = None,
) -> None:
    """Decode all `files`.

    Writes the manifest, `images` with the images to keep, `dropped`, and `fingerprints` if that is not None.

    Which class a file belongs to, `thaw.data.layouts` says. images.zip holds upright RGB images with a short side of
    at most `params.side_px`, under their paths in the manifest, sorted, stored without compression, and the same byte
    for byte in every run: a plain JPEG or PNG that is small enough as it is, other lossless images as PNG if they
    need not shrink, and all else as JPEG of quality 95 without chroma subsampling. dropped.zip holds, in the same form,
    the images that decode but are dropped (too small, say, or under two labels), so that people can look at them.

    `archive_sha256` is the hash of the archive that the files came from: if something is known of that archive, it
    must be found. Empty: nothing is known. `layout` overrules what is found of the layout; None
    where no parameter does.

    Raises:
        ChangedFolderError: a file is not what is known of it. Nothing is written then.
        DataError: the layout can be read in two ways, fewer than two classes would be left, a file cannot be read, or
            a known archive holds what it should not. Nothing is written then.
    """
    images.parent.mkdir(parents=True, exist_ok=True)
    # Which images are kept is known once all are compared; until then they wait in a file without a name.
    with tempfile.TemporaryFile(dir=images.parent) as spool:
        judged = judge_files(files, params=params, layout=layout, spool=spool)
        require_two_classes(judged.rows, files.name, has_knobs=layout is not None)
        require_known_counts(judged.rows, archive_sha256=archive_sha256)
        with new_file(dropped) as temporary:
            write_images(temporary, stored_images(judged, kept=False, spool=spool))
        with new_file(images) as temporary:
            write_images(temporary, stored_images(judged, kept=True, spool=spool))
        if fingerprints is not None:
            kept = [i for i, row in enumerate(judged.rows) if row.kept]
            write_fingerprints(fingerprints, [judged.rows[i].path for i in kept], judged.fingerprints.select(kept))
        write_manifest(manifest, judged.rows)


def judge_files(
    files: Unpacked,
    *,
    params: CleanParams,
    layout: LayoutParams | None,
    spool: IO[bytes] | None,
    relabel: Relabel = lambda rows, *_: rows,
) -> Judged:
    """Say of each file what it is, and whether it is kept.

    Writes the images in their stored form to `spool`, one after the other, unless it is None. `relabel` may change
    labels and drop images before duplicates are looked for. `layout` is None where no parameter says what it is.

    Raises:
        ChangedFolderError: a file is not what is known of it.
        DataError: the layout can be read in two ways, or a file cannot be read.
    """
    paths = list_known_files(files)
    asked = layout or AS_FOUND
    tables = read_label_tables(files.folder, paths, beside=asked.table)
    read = partial(
        read_layout,
        kind=asked.layout,
        classes=asked.classes,
        tables=tables,
        name=files.name,
        has_knobs=layout is not None,
    )
    _require_one_reading(files, paths, read=read, params=params)
    rows: list[Row] = []
    ends: list[int] = []
    hashes = np.zeros(len(paths), dtype=np.uint64)
    thumbnails = np.zeros((len(paths), THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), dtype=np.uint8)
    with progress("clean", total=len(paths), unit="files") as bar:
        looks = map_in_threads(lambda path: _inspect(files, path, params, store=spool is not None), paths)
        for i, seen in enumerate(looks):
            rows.append(seen.row)
            if spool is not None:
                spool.write(seen.stored)
                ends.append(spool.tell())
            hashes[i] = seen.perceptual_hash
            if seen.thumbnail is not None:
                thumbnails[i] = seen.thumbnail
            bar.update()
    fingerprints = Fingerprints(hashes=hashes, thumbnails=thumbnails)
    places = read(paths, images={row.path for row in rows if row.pixels_sha256})
    rows = [_label_row(row, places[row.path]) for row in rows]
    rows = relabel(rows, fingerprints)
    rows = _group_duplicates(rows, fingerprints, max_hamming_distance=params.max_hamming_distance)
    return Judged(rows=_add_odd_entries(rows, files.odd), ends=ends, fingerprints=fingerprints)


def _require_one_reading(
    files: Unpacked, paths: Sequence[str], *, read: Callable[..., object], params: CleanParams
) -> None:
    """Raise DataError if the layout can be read in two ways, before all is decoded: that may take long.

    Where one file of a folder is an image, all others there with its suffix are taken for images, too.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        if not is_system_file(path):
            folder, _, name = path.rpartition("/")
            alike.setdefault((folder, PurePosixPath(name).suffix.lower()), []).append(path)
    sound = {
        path
        for group in alike.values()
        if any(_decodes(files.folder / path, params) for path in group)
        for path in group
    }
    read(paths, images=sound)


def _decodes(path: Path, params: CleanParams) -> bool:
    try:
        decode_image(read_file(path), max_pixels=params.max_pixels)
    except UndecodableError:
        return False
    return True


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` over all cores, lazily: only a few results are computed ahead, so memory does not grow with `items`.

    Threads, since decoding, shrinking, encoding and hashing all release Python's lock.
    """
    threads = count_cores()
    with ThreadPoolExecutor(threads) as pool:
        yield from map_ahead(pool, function, items, ahead=threads * AHEAD_PER_THREAD)


def _inspect(files: Unpacked, path: str, params: CleanParams, *, store: bool) -> _Inspection:
    """Read, decode and measure one file; encode it for images.zip if it is to be stored."""
    data = read_file(files.folder / path)
    sha256 = hashlib.sha256(data).hexdigest()
    if files.sha256 is not None and files.sha256[path] != sha256:
        raise ChangedFolderError(files.folder)
    row = Row(path=path, label="", bytes=len(data), sha256=sha256, kept=False)
    if is_system_file(path):
        return _Inspection(row=dataclasses.replace(row, reason=Reason.SYSTEM_FILE))
    try:
        decoded = decode_image(data, max_pixels=params.max_pixels)
    except UndecodableError as error:
        note = error.detail if error.fault is Fault.UNSUPPORTED else ""
        return _Inspection(row=dataclasses.replace(row, reason=Reason(error.fault), note=note))
    too_small = min(decoded.width_px, decoded.height_px) < params.min_side_px
    # Of the whole image: what is a duplicate must not depend on how images are stored.
    perceptual_hash, thumbnail = fingerprint(decoded.pixels)
    notes = [*decoded.notes, *([ONE_COLOUR] if _is_of_one_colour(decoded.pixels, thumbnail) else [])]
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
        note="; ".join(notes),
    )
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


def _label_row(row: Row, place: Place) -> Row:
    """Give a file its class and, where there is one, its given split; drop it if it has no class for where it lies."""
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


def _group_duplicates(rows: list[Row], fingerprints: Fingerprints, *, max_hamming_distance: int) -> list[Row]:
    """Fill in the duplicate columns of the kept rows, and drop the groups that have more than one label."""
    kept = [i for i, row in enumerate(rows) if row.kept]
    if not kept:
        return rows
    first = find_groups(
        [rows[i].pixels_sha256 for i in kept],
        fingerprints.select(kept),
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


def require_two_classes(rows: Sequence[Row], name: str, *, has_knobs: bool = True) -> None:
    """Raise DataError unless images of two classes or more are kept; it says what became of the others.

    `has_knobs`: whether `data.layout` and `data.labels` are read for them.
    """
    classes = sorted({row.label for row in rows if row.kept})
    dropped = list_dropped(rows)
    conflicts = sum(row.reason == Reason.LABEL_CONFLICT for row in rows)
    if conflicts and 2 * conflicts >= len(rows):
        remedy = "leave each image in one class alone"
    elif not has_knobs:
        remedy = "give one folder of images a class"
    else:
        remedy = "give one folder of images a class, or say in data.layout and data.labels where the labels are"
    if not classes:
        raise DataError(f"{name} leaves no sound image with a class (dropped: {dropped or 'no file'}): {remedy}")
    if len(classes) == 1:
        raise DataError(
            f"{name} has sound images of one class only, {classes[0]!r}{f' (dropped: {dropped})' if dropped else ''}, "
            f"and two are needed: {remedy}"
        )


def stored_images(judged: Judged, *, kept: bool, spool: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The images that are kept, or the others, by path."""
    for row, start, end in zip(judged.rows, [0, *judged.ends], judged.ends, strict=False):
        if row.kept == kept and end > start:
            spool.seek(start)
            yield row.path, spool.read(end - start)
