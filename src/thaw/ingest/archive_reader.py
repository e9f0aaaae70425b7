"""Reading archives: zip, tar and plain folders through one door; whatever is broken in them becomes one sentence."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NoReturn, cast

from thaw.errors import DataError, one_line
from thaw.utils.progress import progress

CHUNK_BYTES = 1 << 20
ENCRYPTED_FLAG = 0x1
# bzip2 and LZMA are left out: zipfile decompresses whole chunks of them at once, so that a bomb would fill the memory.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ArchiveKind = Literal["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "folder"]
_STARTS: dict[bytes, ArchiveKind] = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\x00": "tar.xz",
}
_TAR_MAGIC_AT = 257
_UNREAD_STARTS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "Zstandard-compressed (.tar.zst)",
    b"\x04\x22\x4d\x18": "LZ4-compressed",
}
"""What is recognised, and not read: the standard library has no reader for it."""
_UTF8_FLAG = 0x800
_FALSE_UTF8_FLAG = 0x4000
"""Reserved in the format (PKWARE's APPNOTE, 4.4.4): our own mark on a name that is flagged UTF-8 and is not."""
_DIRECTORY_ENTRY, _DIRECTORY_ENTRY_BYTES = b"PK\x01\x02", 46
_LOCAL_HEADER, _LOCAL_HEADER_BYTES = b"PK\x03\x04", 30
_UNICODE_PATH = 0x7075
"""The extra field of a zip that holds a name in UTF-8 (PKWARE's APPNOTE, 4.6.9)."""
# What Python's readers raise on mutilated archives, found by fuzzing them.
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
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
    packed_bytes: int
    """Its own size; a folder's is that of its files."""
    stated_bytes: int
    """What it says that it unpacks to (a tar says nothing: its own size)."""


def archive_kind(path: Path, *, name: str | None = None, named_by: str | None = None) -> ArchiveKind:
    """Tell by its first bytes what `path` is; messages call it `name`, and say `named_by` what to correct.

    Raises:
        DataError: it is missing, no file, or no archive that is read here.
    """
    name = name or str(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"the archive {name} does not exist; correct {named_by or 'its path'}") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}); correct {named_by or 'its path'}") from None
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        raise DataError(f"{name} is neither a file nor a folder; correct {named_by or 'its path'}")
    try:
        with path.open("rb") as file:
            start = file.read(tarfile.BLOCKSIZE)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}); correct its permissions") from None
    if start[_TAR_MAGIC_AT:].startswith(b"ustar"):
        return "tar"
    for known, kind in _STARTS.items():
        if start.startswith(known):
            return kind
    what = next((what for known, what in _UNREAD_STARTS.items() if start.startswith(known)), None)
    if what is not None:
        raise DataError(f"{name} is {what}, which is not read here; unpack it, and name the folder")
    raise DataError(
        f"{name} is neither a zip nor a tar archive (it starts with {start[:4]!r}); name one that is, or a folder"
    )


@contextmanager
def open_archive(path: Path, *, name: str | None = None, named_by: str | None = None) -> Iterator[Contents]:
    """Open an archive for one pass over its members, in the order in which they are stored.

    Checksums are compared while the chunks are read; an archive whose chunks were all read is sound.

    Raises:
        DataError: (on opening, or later from `members` and `chunks`) the archive is no archive, damaged, truncated,
            encrypted, or packed with an unusual method. The message names the archive and the member.
    """
    name = name or str(path)
    kind = archive_kind(path, name=name, named_by=named_by)
    if kind == "folder":
        files = list(walk_folder(path))
        size = sum(file.stat().st_size for file, what in files if what == "file")
        yield Contents(_folder_members(path, files), len(files), size, size)
    elif kind == "zip":
        with _ZipFileReader(io.FileIO(path)) as file:
            with _blaming(name):
                package = zipfile.ZipFile(cast("IO[bytes]", file))
                file.directory_read = True
            infos = [info for info in package.infolist() if not _is_folder(info)]
            size = sum(info.file_size for info in infos)
            yield Contents(_zip_members(name, package), len(infos), path.stat().st_size, size)
    else:
        size = path.stat().st_size
        with _open_stream(path, kind) as stream:
            yield Contents(_tar_members(name, _TarStream(stream)), None, size, size)


def check_archive(path: Path, *, named_by: str) -> None:
    """Make sure, quickly, that `path` is an archive: its list of files, or its first file, can be read.

    Raises:
        DataError: it is not; or it is encrypted. Messages say that `named_by`, a parameter or an option, named it.
    """
    with open_archive(path, named_by=named_by) as contents:
        if next(contents.members, None) is None and contents.files == 0:
            raise DataError(f"{path} holds no file; name a folder or an archive of images")
        if contents.files is not None:
            for _ in contents.members:
                pass


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


class _ZipFileReader(io.BufferedReader):
    """What `zipfile` reads from: it would refuse the whole archive for one name that is flagged UTF-8 and is not."""

    directory_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if data.startswith(_DIRECTORY_ENTRY) and not self.directory_read:
            return _flag_false_utf8(data)
        if data.startswith(_LOCAL_HEADER) and size == len(data) == _LOCAL_HEADER_BYTES:
            flags, name_bytes = struct.unpack_from("<6xH18xH", data)
            name = super().read(name_bytes)
            self.seek(-len(name), os.SEEK_CUR)
            if flags & _UTF8_FLAG and not _is_utf8(name):
                return data[:6] + struct.pack("<H", flags & ~_UTF8_FLAG) + data[8:]
        return data


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _flag_false_utf8(directory: bytes) -> bytes:
    """The central directory of a zip, in which names that are not UTF-8 carry _FALSE_UTF8_FLAG instead."""
    changed, place = bytearray(directory), 0
    while directory.startswith(_DIRECTORY_ENTRY, place) and place + _DIRECTORY_ENTRY_BYTES <= len(directory):
        flags, name_bytes, extra_bytes, comment_bytes = struct.unpack_from("<8xH18xHHH", directory, place)
        end = place + _DIRECTORY_ENTRY_BYTES + name_bytes
        if flags & _UTF8_FLAG and not _is_utf8(directory[end - name_bytes : end]):
            struct.pack_into("<H", changed, place + 8, flags & ~_UTF8_FLAG | _FALSE_UTF8_FLAG)
        place = end + extra_bytes + comment_bytes
    return bytes(changed)


def _zip_members(archive: str, package: zipfile.ZipFile) -> Iterator[Member]:
    for info in package.infolist():
        name = _zip_name(info)
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
        return "symbolic link" if stat.S_ISLNK(mode) else "special file"
    return "folder" if _is_folder(info) else "file"


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith(("/", "\\"))  # `is_dir` fails on an empty name


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name as it was meant: many programs write UTF-8 and do not say so, or say it in an extra field.

    What is neither is in code page 437, as the format has it.
    """
    name = info.orig_filename  # `filename` would end at a NUL
    if info.flag_bits & _UTF8_FLAG:
        return name
    raw = name.encode("cp437")
    if info.flag_bits & _FALSE_UTF8_FLAG:
        return raw.decode("utf-8", "surrogateescape")
    with suppress(struct.error, UnicodeDecodeError):
        extra = info.extra
        while len(extra) >= 4:
            field, size = struct.unpack_from("<HH", extra)
            if field == _UNICODE_PATH and size > 5 and struct.unpack_from("<L", extra, 5)[0] == zlib.crc32(raw):
                return extra[9 : 4 + size].decode("utf-8")
            extra = extra[4 + size :]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return name


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


def walk_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    """All that lies in a folder, sorted, each with its kind (see `Member.kind`).

    Links to files are followed: the folder is the user's own. Links to folders are not, since they may lead in circles.

    Raises:
        DataError: a folder cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted(names + links):
            path = Path(parent, name)
            if path.is_file():
                yield path, "file"
            else:
                yield path, "symbolic link" if path.is_symlink() else "special file"


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); correct its permissions") from None


def _folder_members(folder: Path, files: list[tuple[Path, str]]) -> Iterator[Member]:
    for path, kind in files:
        yield Member(path.relative_to(folder).as_posix(), kind, _file_chunks(path, kind))


def _file_chunks(path: Path, kind: str) -> Iterator[bytes]:
    if kind != "file":
        return
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        _refuse(error)


def _open_stream(path: Path, kind: ArchiveKind) -> IO[bytes]:
    match kind:
        case "tar.gz":
            return cast("IO[bytes]", gzip.open(path))
        case "tar.bz2":
            return cast("IO[bytes]", bz2.open(path))
        case "tar.xz":
            return cast("IO[bytes]", lzma.open(path))
    return path.open("rb")


class _TarStream:
    """What `tarfile` reads from, with two guards that it lacks."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.end_mark = False
        """Whether the last header that was read is the block of zeros that ends a tar."""

    def read(self, size: int = -1) -> bytes:
        # tarfile reads a long name or a pax header at once, whatever size the archive states for it.
        if not 0 <= size <= CHUNK_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = self._stream.read(size)
        self.end_mark = data == bytes(tarfile.BLOCKSIZE)
        return data

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, place: int) -> int:
        return self._stream.seek(place)


def _tar_members(archive: str, stream: _TarStream) -> Iterator[Member]:
    with _blaming(archive):
        # `stream` is closed by who opened it.
        package = tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:")  # noqa: SIM115
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
        return "symbolic link" if info.issym() else "hard link"
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
