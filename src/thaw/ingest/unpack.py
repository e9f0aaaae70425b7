"""Archive -> folder of images, safely: nothing leaves the folder, nothing grows without bound, all or nothing."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from thaw.errors import DataError
from thaw.ingest.archive_reader import Member, open_archive
from thaw.ingest.cifar10 import convert_batches, holds_batches
from thaw.params import UnzipParams
from thaw.utils.atomic import new_folder, require_disk_space
from thaw.utils.progress import progress

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz")


def unpack_archive(archive: Path, folder: Path, *, limits: UnzipParams) -> None:
    """Unpack a zip or a tar.gz (told apart by content) into `folder`, which appears whole or not at all.

    CIFAR-10's python archive becomes PNG files (see `thaw.cifar`). Files get plain permissions and today's date;
    empty folders are left out.

    Raises:
        DataError: the archive is damaged, encrypted or empty; holds a link, a device, only further archives, a path
            that leads out of the folder or cannot be written everywhere, or two paths that collide; or is larger
            than `limits`. The message names the archive and the member.
    """
    with new_folder(folder) as target:
        _unpack_members(archive, target, limits=limits)
        if holds_batches(target):
            convert_batches(target)


def _unpack_members(archive: Path, target: Path, *, limits: UnzipParams) -> None:
    taken: dict[str, str] = {}
    files: list[str] = []
    with open_archive(archive) as contents:
        room = min(limits.max_bytes, limits.max_ratio * archive.stat().st_size)
        require_disk_space(target, min(contents.stated_bytes, room))
        with progress("unzip", total=contents.files, unit="files") as bar:
            for entries, member in enumerate(contents.members, start=1):
                if entries > limits.max_files:
                    raise DataError(
                        f"the archive {archive} holds more than {limits.max_files} entries (unzip.max_files); "
                        "raise the limit if you trust it"
                    )
                path = _safe_path(archive, member)
                if member.kind == "folder":
                    continue
                _claim_path(archive, path, taken)
                room -= _write_member(archive, member, target / path, room=room)
                files.append(member.name)
                bar.update()
    _require_images(archive, files)


def _write_member(archive: Path, member: Member, path: Path, *, room: int) -> int:
    """Write one file and return its size in bytes, counted as they come: what headers say is not believed."""
    size = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in member.chunks:
                size += len(chunk)
                if size > room:
                    raise DataError(
                        f"the archive {archive} unpacks to more than unzip.max_bytes or unzip.max_ratio allow "
                        f"(at its member {member.name!r}); raise the limits if you trust it"
                    )
                file.write(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); make room for it, or allow it") from None
    return size


def _safe_path(archive: Path, member: Member) -> PurePosixPath:
    """The member's path, relative to the folder that it is unpacked to, or a DataError that says what is wrong."""
    path = PurePosixPath(member.name)
    for fault in _path_faults(member, path):
        raise DataError(f"the archive {archive} holds {member.name!r}, which {fault}; it is not unpacked")
    return path


def _path_faults(member: Member, path: PurePosixPath) -> Iterator[str]:
    if member.kind not in ("file", "folder"):
        yield f"is a {member.kind}, not a file or a folder"
    if re.search(r"[\x00-\x1f\x7f]", member.name):
        yield "has a control character in its name"
    if "\\" in member.name:
        yield "has a backslash in its path"
    if path.is_absolute():
        yield "is an absolute path"
    if member.name[1:2] == ":":
        yield "starts with a drive letter"
    if ".." in path.parts:
        yield "leads out of the folder with '..'"
    if not path.parts and member.kind == "file":
        yield "has no name"
    if re.search(r"[\ud800-\udfff]", member.name):
        yield "has a name that is not UTF-8"
    elif len(str(path).encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
        yield "has too long a name"


def _claim_path(archive: Path, path: PurePosixPath, taken: dict[str, str]) -> None:
    """Note that `path` is a file and its parents are folders, unless an earlier member says otherwise.

    `taken` maps a path, folded as file systems fold it that ignore case and Unicode forms, to how it was first spelt;
    folders end in a slash.
    """
    for spelling in (str(path), *(f"{parent}/" for parent in path.parents[:-1])):
        first = taken.setdefault(unicodedata.normalize("NFC", spelling.rstrip("/").casefold()), spelling)
        if first is not spelling and (first != spelling or spelling == str(path)):
            raise DataError(
                f"the archive {archive} holds both {first!r} and {spelling!r}, which would overwrite each other; "
                "it is not unpacked"
            )


def _require_images(archive: Path, files: list[str]) -> None:
    if not files:
        raise DataError(f"the archive {archive} holds no file; name one with a folder of images for each class")
    if all(name.lower().endswith(ARCHIVE_SUFFIXES) for name in files):
        raise DataError(
            f"the archive {archive} holds only other archives ({files[0]!r} first); unpack it, and name the inner one"
        )
