"""A folder -> its listing: which files it holds, each with its hash.

DVC looks at every file of a folder that it watches, twice a `dvc repro`: four seconds with 25,000 pictures, to find
that there is nothing to do. It watches the listing instead, and `clean` makes sure that the folder is what was listed.
So the folder itself is scratch: delete it, and it is unpacked again when it is needed.
"""

import hashlib
import os
import re
from pathlib import Path

from thaw.atomic import write_text
from thaw.errors import DataError
from thaw.progress import progress

_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""What cannot go through a text file: line breaks, and the surrogates that Python makes of bytes that are not UTF-8."""


def list_files(folder: Path) -> list[str]:
    """All regular files under `folder`, as sorted posix paths relative to it.

    Raises:
        DataError: there is no such folder, or a name cannot be written in a text file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: run the unzip stage")
    found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
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
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def write_listing(folder: Path, destination: Path) -> None:
    """Write a line `SHA-256  path` a file, sorted by path, as `sha256sum` does (and `sha256sum --check` reads)."""
    lines = []
    paths = list_files(folder)
    with progress("list", total=len(paths), unit="files") as bar:
        for path in paths:
            lines.append(f"{hashlib.sha256(read_file(folder / path)).hexdigest()}  {path}\n")
            bar.update()
    write_text(destination, "".join(lines))


def read_listing(path: Path) -> dict[str, str]:
    """Path -> SHA-256, as `write_listing` wrote them; DataError if there is no listing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: run the unzip stage") from None
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def require_listed(found: dict[str, str], listing: Path) -> None:
    """Raise DataError unless `found`, path -> SHA-256, is what `listing` says."""
    expected = read_listing(listing)
    for path in sorted(found.keys() | expected.keys()):
        if found.get(path) != expected.get(path):
            what = "is missing" if path not in found else "has changed" if path in expected else "has been added"
            raise DataError(
                f"{path!r} {what} since {listing} was written: delete the folder of unpacked pictures, and run "
                "`dvc repro` again"
            )
