"""What people name on a command line -> the paths of images: files, folders, and lists of both on standard input."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from thaw.data.layouts import is_system_file
from thaw.errors import DataError

LIST = "-"
"""Stands for paths on standard input: one a line, or, as `find -print0` writes them, each with a NUL behind it."""

SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif",
        ".ppm", ".pgm", ".pbm", ".pnm",
        ".heic", ".heif", ".jxl", ".jp2",  # not read, but images: that they are not predicted is worth a word
    }
)  # fmt: skip
"""What a folder's images end in; a file that is named itself is read whatever its name is."""


def find_images(names: Iterable[str], *, read_list: Callable[[], bytes]) -> list[Path]:
    """The images that are meant: files as they are named, of folders all images in them, sorted.

    Links to folders are not followed, so that there is an end; what systems leave (`._1.jpg`) and what is no plain
    file is passed over.

    Args:
        names: files, folders and `-`.
        read_list: reads all of standard input.

    Raises:
        DataError: a folder cannot be read or holds no image, or standard input names none.
    """
    return [image for name in names for image in (_list(read_list()) if name == LIST else _expand(Path(name)))]


def require_named(names: Sequence[str]) -> None:
    """Raise DataError if the first of several names is that of nothing, and of no image: a model's, misspelt."""
    first = names[0]
    if len(names) > 1 and first != LIST and not os.path.lexists(first) and Path(first).suffix.lower() not in SUFFIXES:
        raise DataError(
            f"there is no {first}, neither a model's folder nor an image; `ls data/models` lists the models"
        )


def _list(content: bytes) -> Iterator[Path]:
    """The images that a list on standard input names."""
    names = content.split(b"\0") if b"\0" in content else [line.removesuffix(b"\r") for line in content.split(b"\n")]
    paths = [Path(os.fsdecode(name)) for name in names if name]
    if not paths:
        raise DataError("standard input names no image; write the paths of images there, one a line")
    for path in paths:
        yield from _expand(path)


def _expand(path: Path) -> list[Path]:
    """A file itself, sound or not; of a folder, its images."""
    if not os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where it may not look
        return [path]
    files = (Path(folder, name) for folder, _, names in os.walk(path, onerror=_refuse) for name in names)
    images = sorted(file for file in files if file.suffix.lower() in SUFFIXES and _is_meant(path, file))
    if not images:
        raise DataError(f"the folder {path} holds no image (by its suffix: .jpg, .png, ...); name another")
    return images


def _is_meant(folder: Path, file: Path) -> bool:
    """Whether people put a file into a folder as an image; a broken link they did, and it is named as such later."""
    plain = os.path.isfile(file) or not os.path.exists(file)  # noqa: PTH110, PTH113 - as above
    return plain and not is_system_file(file.relative_to(folder).as_posix())


def _refuse(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read ({error.strerror})")
