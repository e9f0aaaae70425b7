"""Archive -> folder of images, safely: nothing leaves the folder, nothing grows without bound, all or nothing.

One odd entry costs one entry: what is no plain file, or has a name that leads elsewhere, is refused; what has a name
that cannot be written everywhere, or that is taken, gets another one. What endangers the whole refuses the whole.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thaw.errors import DataError
from thaw.ingest.archive_reader import Member, open_archive
from thaw.ingest.cifar10 import convert_batches, holds_batches
from thaw.ingest.folder_files import hash_files
from thaw.ingest.odd_entries import OddEntry
from thaw.params import UnzipParams
from thaw.utils.atomic import new_folder, require_disk_space
from thaw.utils.progress import progress
from thaw.utils.words import fold_case

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz", ".zst")
_CONTROL_PICTURES = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}
"""Control characters -> the characters that show them."""


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A folder of files, and what is known of it without reading it."""

    folder: Path
    name: str
    """What messages call it: what the user knows it as."""
    odd: Sequence[OddEntry] = ()
    """What was refused, or unpacked under another name, in the order of the archive."""
    sha256: Mapping[str, str] | None = None
    """Path -> SHA-256 of all files, sorted by path, as they were written; None: nobody knows."""


def unpack_archive(archive: Path, folder: Path, *, limits: UnzipParams, name: str | None = None) -> Unpacked:
    """Unpack a zip or a tar (told apart by content), or copy a folder, into `folder`: it appears whole or not at all.

    CIFAR-10's python archive becomes PNG files (see `thaw.ingest.cifar10`). Files get plain permissions and today's
    date; empty folders are left out.

    Args:
        archive: what to unpack.
        folder: the final name.
        limits: how much may come out.
        name: what messages call the archive: what the user knows it as.

    Raises:
        DataError: the archive is damaged, encrypted, or larger than `limits`; or there is nothing in it to unpack, or
            only further archives. The message names the archive and the member.
    """
    name = name or str(archive)
    with new_folder(folder) as target:
        odd, sha256 = _unpack_members(archive, target, limits=limits, name=name)
        if holds_batches(target):
            convert_batches(target)
            sha256 = hash_files(target)
    return Unpacked(folder=folder, name=name, odd=odd, sha256=dict(sorted(sha256.items())))


def _unpack_members(
    archive: Path, target: Path, *, limits: UnzipParams, name: str
) -> tuple[list[OddEntry], dict[str, str]]:
    """Write all files; return what is odd, and the SHA-256 of each path."""
    taken = _TakenNames()
    odd: list[OddEntry] = []
    files: list[str] = []
    sha256: dict[str, str] = {}
    with open_archive(archive, name=name) as contents:
        room = min(limits.max_bytes, limits.max_ratio * contents.packed_bytes)
        require_disk_space(target, min(contents.stated_bytes, room))
        with progress("unzip", total=contents.files, unit="files") as bar:
            for entries, member in enumerate(contents.members, start=1):
                if entries > limits.max_files:
                    raise DataError(
                        f"the archive {name} holds more than {limits.max_files} entries (unzip.max_files); "
                        "raise the limit if you trust it"
                    )
                if member.kind == "folder":
                    continue
                shown = _readable(member.name)
                path = PurePosixPath(shown)
                fault = _find_fault(member, path)
                if fault:
                    odd.append(OddEntry(name=shown, path="", why=fault))
                    room -= _write_member(name, member, None, room=room)[0]
                else:
                    free = taken.claim(path)
                    if why := _explain_change(member.name, path, free):
                        odd.append(OddEntry(name=shown, path=free, why=why))
                    size, sha256[free] = _write_member(name, member, target / free, room=room)
                    room -= size
                    files.append(shown)
                bar.update()
    _require_images(name, files, odd)
    return odd, sha256


def _write_member(archive: str, member: Member, path: Path | None, *, room: int) -> tuple[int, str]:
    """Write one file, or only read it where it is refused; return its size in bytes and its SHA-256.

    They are counted as they come: what headers say is not believed.
    """
    size, digest = 0, hashlib.sha256()
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") if path is not None else nullcontext() as file:
            for chunk in member.chunks:
                size += len(chunk)
                if size > room:
                    raise DataError(
                        f"the archive {archive} unpacks to more than unzip.max_bytes or unzip.max_ratio allow "
                        f"(at its member {member.name!r}); raise the limits if you trust it"
                    )
                digest.update(chunk)
                if file is not None:
                    file.write(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); make room for it, or allow it") from None
    return size, digest.hexdigest()


def _readable(name: str) -> str:
    """The name with forward slashes, and without what cannot be printed.

    Bytes that are not UTF-8 are read as Windows-1252, or else as Latin-1: what most archives mean that do not say so.
    """
    raw = name.encode("utf-8", "surrogateescape") if re.search("[\ud800-\udfff]", name) else b""
    for encoding in ("cp1252", "latin-1") if raw else ():
        try:
            name = raw.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    return name.translate(_CONTROL_PICTURES).replace("\\", "/")


def _find_fault(member: Member, path: PurePosixPath) -> str:
    """Why an entry is refused; empty if it is not."""
    name = str(path)
    if member.kind != "file":
        return f"a {member.kind}, not a file"
    if path.is_absolute():
        return "an absolute path"
    if re.match("[A-Za-z]:", name):
        return "starts with a drive letter"
    if ".." in path.parts:
        return "leads out of the folder with '..'"
    if not path.parts:
        return "has no name"
    if len(name.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
        return "has too long a name"
    return ""


def _explain_change(name: str, path: PurePosixPath, free: str) -> str:
    """Why an entry is unpacked under another name than it has; empty if it is not."""
    why = []
    if "\\" in name:
        why.append("backslashes read as slashes")
    if re.search("[\ud800-\udfff]", name):
        why.append("a name that is not UTF-8")
    if re.search(r"[\x00-\x1f\x7f]", name):
        why.append("a control character in its name")
    if free != str(path):
        why.append("another entry has this name (upper and lower case and Unicode form do not count)")
    return "; ".join(why)


class _TakenNames:
    """Which paths are files and folders already, as file systems see it that ignore case and Unicode forms."""

    def __init__(self) -> None:
        self._spelling: dict[str, str] = {}
        """Folded path -> as it is spelt; folders end in a slash."""
        self._next_number: dict[str, int] = {}

    def claim(self, path: PurePosixPath) -> str:
        """The path, or one that is still free: in folders as they are spelt already, and with a number if need be."""
        parent = ""
        for part in path.parts[:-1]:
            parent = self._claim_part(parent, part, end="/")
        return self._claim_part(parent, path.name, end="")

    def _claim_part(self, parent: str, name: str, *, end: str) -> str:
        wanted = fold_case(parent + name)
        candidate = parent + name + end
        while (there := self._spelling.get(fold_case(candidate.rstrip("/")))) is not None:
            if end and there.endswith("/"):
                return there
            number = self._next_number.get(wanted, 2)
            self._next_number[wanted] = number + 1
            stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
            short = stem.encode()[: MAX_NAME_BYTES - 40].decode(errors="ignore")
            candidate = f"{parent}{short} ({number}){suffix[:20]}{end}"
        self._spelling[fold_case(candidate.rstrip("/"))] = candidate
        return candidate


def _require_images(archive: str, files: list[str], odd: list[OddEntry]) -> None:
    if not files and odd:
        raise DataError(
            f"the archive {archive} holds nothing that can be unpacked: of {len(odd):,} entries, the first is "
            f"{odd[0].name!r} ({odd[0].why}); pack the images themselves, under relative names"
        )
    if not files:
        raise DataError(f"the archive {archive} holds no file; name one with a folder of images for each class")
    if all(name.lower().endswith(ARCHIVE_SUFFIXES) for name in files):
        raise DataError(
            f"the archive {archive} holds only other archives ({files[0]!r} first); unpack it, and name the inner one"
        )
