"""A folder of files -> manifest.csv, which says what each is, and images.zip, which holds the images to keep."""

import dataclasses
import hashlib
import os
import tempfile
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

from thaw.data.decode import Pixels, UndecodableError, decode_image
from thaw.data.duplicates import THUMBNAIL_SIDE_PX, find_groups, fingerprint
from thaw.data.image_zip import encode_for_storage, write_images
from thaw.data.known_archives import require_known_counts
from thaw.data.manifest import DAMAGED_SCAN, Reason, Row, write_manifest
from thaw.errors import DataError
from thaw.ingest.checksums import list_files, read_file
from thaw.params import CleanParams
from thaw.utils.atomic import new_file
from thaw.utils.progress import progress

SYSTEM_FILES = {"Thumbs.db", ".DS_Store", "desktop.ini"}
AHEAD_PER_THREAD = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inspection:
    """What one look at one file found out."""

    row: Row
    """As if the file lay in a class folder, and had no duplicates."""
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
) -> None:
    """Decode every file under `folder`.

    Writes the manifest, `images` with the images to keep, and `dropped`.

    A class folder is one that directly holds a file that decodes; its name is the class, at whatever depth it lies
    (train/Cat and test/Cat are one class). images.zip holds upright RGB images with a short side of at most
    `params.side_px`, under their paths in the manifest, sorted, stored without compression, and the same byte for
    byte in every run: a plain JPEG or PNG that is small enough as it is, other lossless images as PNG if they
    need not shrink, and all else as JPEG of quality 95 without chroma subsampling. dropped.zip holds, in the same form,
    the images that decode but are dropped (too small, say, or under two labels), so that people can look at them.

    `archive_sha256` is the hash of the archive that the folder came from: if something is known of that archive, it
    must be found. Empty: nothing is known.

    Raises:
        DataError: fewer than two classes would be left, a file cannot be read, or a known archive holds what it should
            not. Nothing is written then.
    """
    paths = list_files(folder)
    with ExitStack() as stack:
        # Which images are kept is known once all are compared; until then they wait in a file without a name.
        images.parent.mkdir(parents=True, exist_ok=True)
        spool = stack.enter_context(tempfile.TemporaryFile(dir=images.parent))
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
        rows = _group_duplicates(
            rows, hashes=hashes, thumbnails=thumbnails, max_hamming_distance=params.max_hamming_distance
        )
        _require_two_classes(rows, folder)
        require_known_counts(rows, archive_sha256=archive_sha256)
        with new_file(dropped) as temporary:
            write_images(temporary, _stored_images(rows, kept=False, spool=spool, ends=ends))
        with new_file(images) as temporary:
            write_images(temporary, _stored_images(rows, kept=True, spool=spool, ends=ends))
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
    """Read, decode and measure one file, and encode it for images.zip."""
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
        decoded = decode_image(data, max_pixels=params.max_pixels)
    except UndecodableError as error:
        return _Inspection(row=dataclasses.replace(row, reason=Reason(error.fault)))
    too_small = min(decoded.width_px, decoded.height_px) < params.min_side_px
    row = dataclasses.replace(
        row,
        width_px=decoded.width_px,
        height_px=decoded.height_px,
        mode=decoded.mode,
        format=decoded.format,
        exif_orientation=decoded.exif_orientation,
        damage=DAMAGED_SCAN if decoded.damaged else "",
        pixels_sha256=_hash_pixels(decoded.pixels),
        kept=not too_small,
        reason=Reason.TOO_SMALL if too_small else "",
    )
    # Of the whole image: what is a duplicate must not depend on how images are stored.
    perceptual_hash, thumbnail = fingerprint(Image.fromarray(decoded.pixels))
    return _Inspection(
        row=row,
        stored=encode_for_storage(decoded, data, side_px=params.side_px),
        perceptual_hash=perceptual_hash,
        thumbnail=thumbnail,
    )


def _is_system_file(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return parts[-1] in SYSTEM_FILES or parts[-1].startswith("._") or "__MACOSX" in parts


def _hash_pixels(pixels: Pixels) -> str:
    """SHA-256 of the shape and the pixels: a 2 x 8 and a 4 x 4 image of one colour are two images."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


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


def _require_two_classes(rows: list[Row], folder: Path) -> None:
    classes = sorted({row.label for row in rows if row.kept})
    if not classes:
        raise DataError(
            f"{folder} holds no sound image in a class folder ({len(rows):,} files seen): "
            "give an archive with one folder of images a class"
        )
    if len(classes) == 1:
        raise DataError(
            f"{folder} holds sound images of one class only, {classes[0]!r}: "
            "give an archive with one folder of images a class, and two classes or more"
        )


def _stored_images(rows: list[Row], *, kept: bool, spool: IO[bytes], ends: list[int]) -> Iterator[tuple[str, bytes]]:
    """The images that are kept, or the others, by path; row i's bytes in the spool end at `ends[i]`."""
    for row, start, end in zip(rows, [0, *ends], ends, strict=False):
        if row.kept == kept and end > start:
            spool.seek(start)
            yield row.path, spool.read(end - start)
