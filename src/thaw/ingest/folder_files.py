"""The files of a folder: listed, read and hashed, each in one way."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from thaw.errors import DataError
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
    paths = sorted(_walk(folder, ""))
    for path in paths:
        if _UNSPEAKABLE.search(path):
            raise DataError(
                f"{folder} holds a file whose name has control characters or is not UTF-8, {path!a}: rename it"
            )
    return paths


def _walk(folder: Path, start: str) -> Iterator[str]:
    """Each file below, its path behind `start`; no file is looked at, only what its folder says of it."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry), f"{start}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield start + entry.name
    except OSError as error:
        _refuse(error)


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


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None
