"""Reading archives: zip and tar.gz through one door, and whatever is broken in them becomes one sentence."""

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from thaw.errors import DataError, one_line
from thaw.utils.progress import progress

CHUNK_BYTES = 1 << 20
ENCRYPTED_FLAG = 0x1
# bzip2 and LZMA are left out: zipfile decompresses whole chunks of them at once, so that a bomb would fill the memory.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What Python's readers raise on mutilated archives, found by fuzzing them.
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    MemoryError,
)


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    """As it stands in the archive: not to be trusted."""
    kind: str
    """`file`, `folder`, or in words what else it says it is."""
    chunks: Iterator[bytes]
    """The content, in pieces of at most CHUNK_BYTES; to be read before the next member is asked for."""


@dataclass(frozen=True)
class Contents:
    """An open archive."""

    members: Iterator[Member]
    files: int | None
    """How many files it says it has, or None where only reading it all would tell."""
    stated_bytes: int
    """What it says that it unpacks to (a tar.gz says nothing: its own size)."""


def archive_kind(path: Path, *, name: str | None = None) -> Literal["zip", "tar.gz"]:
    """Tell by its first bytes what `path` is; messages call it `name`.

    Raises:
        DataError: it is missing, no file, or neither a zip nor gzip-compressed.
    """
    name = name or str(path)
    if not path.exists():
        raise DataError(f"the archive {name} does not exist; correct data.path in params.yaml")
    if not path.is_file():
        raise DataError(
            f"{name} is not a file; name a .zip or .tar.gz archive (the pipeline reads data.path in params.yaml)"
        )
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}); correct its permissions") from None
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "tar.gz"
    raise DataError(f"{name} is neither a zip nor a tar.gz archive (it starts with {start!r}); name one that is")


@contextmanager
def open_archive(path: Path, *, name: str | None = None) -> Iterator[Contents]:
    """Open an archive for one pass over its members, in the order in which they are stored.

    Checksums are compared while the chunks are read; an archive whose chunks were all read is sound.

    Raises:
        DataError: (on opening, or later from `members` and `chunks`) the archive is no archive, damaged, truncated,
            encrypted, or packed with an unusual method. The message names the archive and the member.
    """
    name = name or str(path)
    if archive_kind(path, name=name) == "zip":
        with path.open("rb") as file:
            with _blaming(name):
                package = zipfile.ZipFile(file)
            files = [info for info in package.infolist() if not _is_folder(info)]
            yield Contents(_zip_members(name, package), len(files), sum(info.file_size for info in files))
    else:
        with _TarStream(path) as stream:
            yield Contents(_tar_members(name, stream), None, path.stat().st_size)


def check_archive(path: Path) -> None:
    """Make sure, quickly, that `path` is an archive: its list of files, or its first file, can be read.

    Raises:
        DataError: it is not.
    """
    with open_archive(path) as contents:
        next(contents.members, None)


def verify_archive(path: Path, *, name: str) -> None:
    """Read all of an archive whose hash nobody knows, and compare the checksums that it carries.

    Raises:
        DataError: a byte is wrong; messages call the archive `name`.
    """
    with open_archive(path, name=name) as contents, progress("verify", total=contents.files, unit="files") as bar:
        for member in contents.members:
            for _ in member.chunks:
                pass
            bar.update(member.kind == "file")


@contextmanager
def _blaming(archive: str, member: str | None = None) -> Iterator[None]:
    """Turn whatever the standard library raises over a mutilated archive into one sentence."""
    try:
        yield
    except _BROKEN as error:
        where = "" if member is None else f" at its member {member!r}"
        why = one_line(error)
        raise DataError(f"the archive {archive} is damaged or cut short{where} ({why}); fetch it again") from None


def _zip_members(archive: str, package: zipfile.ZipFile) -> Iterator[Member]:
    for info in package.infolist():
        name = info.orig_filename  # `filename` would end at a NUL
        if info.flag_bits & ENCRYPTED_FLAG:
            raise DataError(
                f"the archive {archive} is encrypted (its member {name!r} is); unpack it, and zip it plainly"
            )
        if info.compress_type not in METHODS:
            raise DataError(
                f"the archive {archive} packs its member {name!r} with method {info.compress_type}, "
                "but only stored (0) and deflated (8) are read here; pack it again with a plain zip"
            )
        yield Member(name, _zip_kind(info), _zip_chunks(archive, package, info))


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "link" if stat.S_ISLNK(mode) else "special file"
    return "folder" if _is_folder(info) else "file"


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith("/")  # `is_dir` fails on an empty name


def _zip_chunks(archive: str, package: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    missing = info.file_size
    with _blaming(archive, info.orig_filename):
        stream = package.open(info)
    with stream:
        while chunk := _read(stream, archive, info.orig_filename):
            missing -= len(chunk)
            yield chunk
    if missing:
        with _blaming(archive, info.orig_filename):
            raise EOFError(f"{missing} bytes are missing")


class _TarStream(gzip.GzipFile):
    """What `tarfile` reads from, with two guards that it lacks."""

    end_mark = False
    """Whether the last header that was read is the block of zeros that ends a tar."""

    def read(self, size: int | None = -1) -> bytes:
        # tarfile reads a long name or a pax header at once, whatever size the archive states for it.
        if size is None or not 0 <= size <= CHUNK_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = super().read(size)
        self.end_mark = data == bytes(tarfile.BLOCKSIZE)
        return data


def _tar_members(archive: str, stream: _TarStream) -> Iterator[Member]:
    with _blaming(archive):
        package = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - `stream` is closed by who opened it
    last = None
    while True:
        with _blaming(archive, last):
            info = package.next()
            if info is not None and info.size < 0:
                raise tarfile.ReadError("a negative size")
        if info is None:
            break
        last = info.name
        yield Member(info.name, _tar_kind(info), _tar_chunks(archive, package, info))
    with _blaming(archive, last):
        # tarfile takes a mutilated header for the end, and leaves gzip's checksum unread.
        if not stream.end_mark:
            raise EOFError("no end mark")
        while stream.read(CHUNK_BYTES):
            pass


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "link"
    if info.isdir():
        return "folder"
    return "file" if info.isreg() and not info.issparse() else "special file"


def _tar_chunks(archive: str, package: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    if _tar_kind(info) != "file":
        return
    with _blaming(archive, info.name):
        stream = package.extractfile(info)
    assert stream is not None  # it is a regular file
    with stream:
        while chunk := _read(stream, archive, info.name):
            yield chunk


def _read(stream: IO[bytes], archive: str, member: str) -> bytes:
    with _blaming(archive, member):
        return stream.read(CHUNK_BYTES)
