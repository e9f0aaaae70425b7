"""images.zip: the archive of cleaned images, its writer beside its reader."""

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image

from thaw.data.decode import DecodedImage, encode, resize_short_side
from thaw.data.stored_image import StoredImage
from thaw.errors import DataError
from thaw.utils.zips import add_stored

_LOSSLESS_FORMATS = {"BMP", "GIF", "PNG", "PPM", "TIFF"}
_LOCAL_HEADER_BYTES = 30
"""Before a member's name in a ZIP file (PKWARE's APPNOTE, 4.3.7)."""


def encode_for_storage(decoded: DecodedImage, data: bytes, *, side_px: int) -> bytes:
    """The bytes under which an image is stored: upright RGB, with a short side of at most `side_px`.

    A plain JPEG or PNG that is small enough keeps its bytes `data`; other lossless images become PNG if they need not
    shrink, and all else JPEG of quality 95 without chroma subsampling.
    """
    if decoded.plain and min(decoded.pixels.shape[:2]) <= side_px:
        return data
    image = Image.fromarray(decoded.pixels)
    small = resize_short_side(image, side_px)
    return encode(small, lossless=decoded.format in _LOSSLESS_FORMATS and small is image)


def write_images(path: Path, images: Iterable[tuple[str, bytes]]) -> None:
    """Pack images, each with its path, in the order in which they come; the same bytes in every run."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in images:
            add_stored(archive, name, content)


class ImageZip:
    """Reads images.zip: opened once, used from any number of threads and forked processes.

    Unlike zipfile's, its reads do not move a shared file position: they are `pread`s (Unix only).
    """

    def __init__(self, path: Path) -> None:
        """Open `path` and read its list of members; raise DataError if it is missing or no such file."""
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {info.filename: info for info in archive.infolist()}
            self._file = path.open("rb")
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: run the clean stage") from None
        except zipfile.BadZipFile as error:
            raise DataError(f"{path} is damaged ({error}): delete it and run the clean stage again") from None
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def paths(self) -> list[str]:
        """The paths of all images, sorted."""
        return sorted(self._members)

    def fingerprint(self) -> str:
        """A hash over names, sizes and checksums of all images: another archive has another one."""
        facts = [(name, info.file_size, info.CRC) for name, info in sorted(self._members.items())]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def read(self, path: str) -> bytes:
        """The bytes of one image; DataError if it is missing or its checksum is wrong."""
        info = self._members.get(path)
        if info is None:
            raise DataError(f"{self.path} holds no image {path!r}: run the clean stage again")
        header = os.pread(self._file.fileno(), _LOCAL_HEADER_BYTES, info.header_offset)
        name_and_extra = sum(struct.unpack("<HH", header[-4:])) if len(header) == _LOCAL_HEADER_BYTES else 0
        start = info.header_offset + _LOCAL_HEADER_BYTES + name_and_extra
        data = os.pread(self._file.fileno(), info.file_size, start)
        if info.compress_type != zipfile.ZIP_STORED or zlib.crc32(data) != info.CRC:
            raise DataError(f"{self.path} is damaged at {path!r}: delete it and run the clean stage again")
        return data

    def read_image(self, path: str) -> StoredImage:
        """One image; DataError if it is missing or damaged."""
        return StoredImage(self.read(path), place=f"{self.path}: {path!r}")
