"""images.sha256: which files the unzipped folder holds, each with its hash; the writer beside the reader.

DVC looks at every file of a folder that it watches, twice a `dvc repro`: four seconds with 25,000 images, to find
that there is nothing to do. It watches this list instead. The folder itself is scratch: before `clean` reads it, it
is compared with the list, and unpacked again where it differs or is gone.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NoReturn

from thaw.errors import DataError
from thaw.ingest.unpack import unpack_archive
from thaw.params import UnzipParams
from thaw.utils.atomic import write_text
from thaw.utils.progress import progress

_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""What cannot go through a text file: line breaks, and the surrogates that Python makes of bytes that are not UTF-8."""


def list_files(folder: Path) -> list[str]:
    """All regular files under `folder`, as sorted posix paths relative to it.

    Raises:
        DataError: there is no such folder, a folder cannot be read, or a name cannot be written in a text file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory: run the unzip stage")
    found = (Path(parent, name) for parent, _, names in os.walk(folder, onerror=_refuse) for name in names)
    paths = sorted(path.relative_to(folder).as_posix() for path in found if path.is_file() and not path.is_symlink())
    for path in paths:
        if _UNSPEAKABLE.search(path):
            raise DataError(
                f"{folder} holds a file whose name has control characters or is not UTF-8, {path!a}: rename it"
            )
    return paths


def read_file(path: Path) -> bytes:
    """The bytes of a file; DataError if they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        _refuse(error)


def hash_files(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of each file under `folder`, sorted by path."""
    paths = list_files(folder)
    hashes = {}
    with progress("hash", total=len(paths), unit="files") as bar:
        for path in paths:
            hashes[path] = hashlib.sha256(read_file(folder / path)).hexdigest()
            bar.update()
    return hashes


def write_checksums(folder: Path, destination: Path) -> None:
    """Write a line `SHA-256  path` a file, sorted by path, as `sha256sum` does (and `sha256sum --check` reads)."""
    write_text(destination, "".join(f"{sha256}  {path}\n" for path, sha256 in hash_files(folder).items()))


def read_checksums(path: Path) -> dict[str, str]:
    """Path -> SHA-256, as `write_checksums` wrote them; DataError if the file is missing."""
    try:
        # Not splitlines: names may hold other characters that it takes for line ends.
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: run the unzip stage") from None
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def restore_folder(
    folder: Path, *, archive: Path, checksums: Path, limits: UnzipParams, name: str | None = None
) -> None:
    """Make `folder` hold what `checksums` lists: unpack `archive` once more if it does not, or is gone.

    So it was deleted, or is an earlier archive's, or this clone never had it: DVC brings back the list alone.
    Messages call the archive `name`.

    Raises:
        DataError: see `unpack_archive`; or the archive does not hold what was listed.
    """
    expected = read_checksums(checksums)
    if folder.is_dir() and hash_files(folder) == expected:
        return
    unpack_archive(archive, folder, limits=limits, name=name)
    if hash_files(folder) != expected:
        raise DataError(
            f"{archive} does not unpack to what {checksums} says: check the disk, and run `dvc repro --force unzip`"
        )


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None
