"""A folder of files -> manifest.csv, which says what each is, and pictures.zip, which holds the pictures to keep."""

import dataclasses
import hashlib
import os
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thaw.atomic import new_file
from thaw.duplicates import THUMBNAIL_SIDE_PX, find_groups, fingerprint
from thaw.errors import DataError
from thaw.images import Picture, Pixels, UndecodableError, encode, open_picture, resize_short_side
from thaw.known import require_known_counts
from thaw.listing import list_files, read_file
from thaw.manifest import DAMAGED_SCAN, Reason, Row, write_manifest
from thaw.params import CleanParams
from thaw.progress import progress

SYSTEM_FILES = {"Thumbs.db", ".DS_Store", "desktop.ini"}
LOSSLESS_FORMATS = {"BMP", "GIF", "PNG", "PPM", "TIFF"}
AHEAD_PER_THREAD = 4
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inspection:
    """What one look at one file found out."""

    row: Row
    """As if the file lay in a class folder, and had no duplicates."""
    stored: bytes = b""
    """What pictures.zip or dropped.zip gets; empty if the file does not decode."""
    perceptual_hash: int = 0
    thumbnail: Pixels | None = None


def clean_pictures(
    folder: Path,
    *,
    params: CleanParams,
    manifest: Path,
    pictures: Path,
    dropped: Path,
    archive_sha256: str = "",
) -> None:
    """Decode every file under `folder`.

    Writes the manifest, `pictures` with the pictures to keep, and `dropped`.

    A class folder is one that directly holds a file that decodes; its name is the class, at whatever depth it lies
    (train/Cat and test/Cat are one class). pictures.zip holds upright RGB pictures with a short side of at most
    `params.side_px`, under their paths in the manifest, sorted, stored without compression, and the same byte for
    byte in every run: a plain JPEG or PNG that is small enough as it is, other lossless pictures as PNG if they
    need not shrink, and all else as JPEG of quality 95 without chroma subsampling. dropped.zip holds, in the same form,
    the pictures that decode but are dropped (too small, say, or under two labels), so that people can look at them.

    `archive_sha256` is the hash of the archive that the folder came from: if something is known of that archive, it
    must be found. Empty: nothing is known.

    Raises:
        DataError: fewer than two classes would be left, a file cannot be read, or a known archive holds what it should
            not. Nothing is written then.
    """
    paths = list_files(folder)
    with ExitStack() as stack:
        # Which pictures are kept is known once all are compared; until then they wait in a file without a name.
        pictures.parent.mkdir(parents=True, exist_ok=True)
        spool = stack.enter_context(tempfile.TemporaryFile(dir=pictures.parent))
        bar = stack.enter_context(progress("clean", total=len(paths), unit="files"))
        rows: list[Row] = []
        ends: list[int] = []
        hashes = np.zeros(len(paths), dtype=np.uint64)
        thumbnails = np.zeros((len(paths), THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), dtype=np.uint8)
        for i, seen in enumerate(_in_order(lambda path: _inspect(folder, path, params), paths)):
            rows.append(seen.row)
            spool.write(seen.stored)
            ends.append(spool.tell())
            hashes[i] = seen.perceptual_hash
            if seen.thumbnail is not None:
                thumbnails[i] = seen.thumbnail
            bar.update()
        rows = _drop_outside_classes(rows)
        rows = _group_duplicates(rows, hashes=hashes, thumbnails=thumbnails, max_bits=params.near_duplicate_bits)
        _require_two_classes(rows, folder)
        require_known_counts(rows, archive_sha256=archive_sha256)
        with new_file(dropped) as temporary:
            _write_pictures(temporary, rows, kept=False, spool=spool, ends=ends)
        with new_file(pictures) as temporary:
            _write_pictures(temporary, rows, kept=True, spool=spool, ends=ends)
        write_manifest(manifest, rows)


def _in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` over all cores, lazily: only a few results are computed ahead, so memory does not grow with `items`.

    Threads, since decoding, shrinking, encoding and hashing all release Python's lock.
    """
    threads = count_cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads * AHEAD_PER_THREAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def count_cores() -> int:
    """How many cores this process may use (Linux tells; elsewhere, how many there are)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _inspect(folder: Path, path: str, params: CleanParams) -> _Inspection:
    """Read, decode and measure one file, and encode it for pictures.zip."""
    data = read_file(folder / path)
    row = Row(
        path=path,
        label=PurePosixPath(path).parent.name,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        kept=False,
    )
    if _is_system_file(path):
        return _Inspection(row=dataclasses.replace(row, reason=Reason.SYSTEM_FILE))
    try:
        picture = open_picture(data, max_pixels=params.max_pixels)
    except UndecodableError as error:
        return _Inspection(row=dataclasses.replace(row, reason=Reason(error.fault)))
    too_small = min(picture.width_px, picture.height_px) < params.min_side_px
    row = dataclasses.replace(
        row,
        width_px=picture.width_px,
        height_px=picture.height_px,
        mode=picture.mode,
        format=picture.format,
        exif_orientation=picture.exif_orientation,
        damage=DAMAGED_SCAN if picture.damaged else "",
        pixels_sha256=_hash_pixels(picture.pixels),
        kept=not too_small,
        reason=Reason.TOO_SMALL if too_small else "",
    )
    image = Image.fromarray(picture.pixels)
    small = resize_short_side(image, params.side_px)
    # Of the whole picture: what is a duplicate must not depend on how pictures are stored.
    perceptual_hash, thumbnail = fingerprint(image)
    return _Inspection(
        row=row,
        stored=_encode_for_storage(small, data, picture=picture, shrunk=small is not image),
        perceptual_hash=perceptual_hash,
        thumbnail=thumbnail,
    )


def _is_system_file(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return parts[-1] in SYSTEM_FILES or parts[-1].startswith("._") or "__MACOSX" in parts


def _hash_pixels(pixels: Pixels) -> str:
    """SHA-256 of the shape and the pixels: a 2 x 8 and a 4 x 4 picture of one colour are two pictures."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _encode_for_storage(image: Image.Image, data: bytes, *, picture: Picture, shrunk: bool) -> bytes:
    if picture.plain and not shrunk:
        return data
    return encode(image, lossless=picture.format in LOSSLESS_FORMATS and not shrunk)


def _drop_outside_classes(rows: list[Row]) -> list[Row]:
    """Find the class folders; files elsewhere lose their label, and are dropped for where they lie."""
    class_folders = {PurePosixPath(row.path).parent for row in rows if row.pixels_sha256} - {PurePosixPath()}
    return [
        row
        if PurePosixPath(row.path).parent in class_folders
        else dataclasses.replace(
            row,
            label="",
            kept=False,
            reason=Reason.SYSTEM_FILE if row.reason == Reason.SYSTEM_FILE else Reason.NO_CLASS,
        )
        for row in rows
    ]


def _group_duplicates(
    rows: list[Row], *, hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], max_bits: int
) -> list[Row]:
    """Fill in the duplicate columns of the kept rows, and drop the groups that have more than one label."""
    kept = [i for i, row in enumerate(rows) if row.kept]
    if not kept:
        return rows
    first = find_groups(
        [rows[i].pixels_sha256 for i in kept], hashes=hashes[kept], thumbnails=thumbnails[kept], max_bits=max_bits
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


def _require_two_classes(rows: list[Row], folder: Path) -> None:
    classes = sorted({row.label for row in rows if row.kept})
    if not classes:
        raise DataError(
            f"{folder} holds no sound picture in a class folder ({len(rows):,} files seen): "
            "give an archive with one folder of pictures a class"
        )
    if len(classes) == 1:
        raise DataError(
            f"{folder} holds sound pictures of one class only, {classes[0]!r}: "
            "give an archive with one folder of pictures a class, and two classes or more"
        )


def _write_pictures(path: Path, rows: list[Row], *, kept: bool, spool: IO[bytes], ends: list[int]) -> None:
    """Make a ZIP file of the pictures that are kept, or of the others; row i's bytes in the spool end at `ends[i]`."""
    starts = [0, *ends]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for row, start, end in zip(rows, starts, ends, strict=False):
            if row.kept == kept and end > start:
                info = zipfile.ZipInfo(row.path, ZIP_EPOCH)
                info.create_system = 3  # Unix, also where this runs on something else
                info.external_attr = 0o644 << 16
                spool.seek(start)
                archive.writestr(info, spool.read(end - start))
