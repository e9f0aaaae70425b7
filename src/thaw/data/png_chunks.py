"""The checksums of a PNG file: Pillow passes over those of the pixels, and insists on those of comments.

Here it is as in libpng: a chunk that the pixels do not need is left out if its checksum is wrong; one that they need
must be right. See https://www.w3.org/TR/png-3/#13Error-handling
"""

import struct
import zlib
from dataclasses import dataclass

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANCILLARY = 0x20
"""This bit of a chunk's first letter says that the image can be shown without it."""
_PIECE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class WholePng:
    """What the checksums of a PNG file say."""

    data: bytes
    """The file without the chunks that are damaged and not needed."""
    wrong_checksum: bool
    """Of any chunk."""
    cut: bool
    """The file ends before its last chunk does, or without the one that has to be the last (IEND)."""
    doubtful_pixels: tuple[bytes, ...] = ()
    """The compressed pixels if their checksum is wrong or they are cut, else nothing."""

    def require_whole_pixels(self, *, max_bytes: int) -> None:
        """Look whether the pixels are whole, if there is doubt: zlib keeps a checksum of its own.

        Raises:
            EOFError: they are cut.
            zlib.error: they are damaged, or more than `max_bytes` bytes.
        """
        if not self.doubtful_pixels:
            return
        stream, total = zlib.decompressobj(), 0
        for part in self.doubtful_pixels:
            rest = part
            while rest and not stream.eof:
                total += len(stream.decompress(rest, _PIECE_BYTES))
                rest = stream.unconsumed_tail
                if total > max_bytes:
                    raise zlib.error("more pixels than the header says")
        if not stream.eof:
            raise EOFError("the pixels are truncated")


def is_png(data: bytes) -> bool:
    """Whether a file starts as a PNG does."""
    return data.startswith(_SIGNATURE)


def check_png(data: bytes) -> WholePng:
    """Compare the checksum of each chunk of a PNG file with what the chunk holds; nothing is decoded."""
    offset, wrong, ended, pixels_wrong = len(_SIGNATURE), False, False, False
    left_out: list[slice] = []
    pixels: list[slice] = []
    view = memoryview(data)
    while not ended and offset + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        kind, end = data[offset + 4 : offset + 8], offset + 12 + length
        if end > len(data):
            break
        if kind == b"IDAT":
            pixels.append(slice(offset + 8, end - 4))
        if zlib.crc32(view[offset + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            wrong = True
            pixels_wrong |= kind == b"IDAT"
            if kind[0] & _ANCILLARY:
                left_out.append(slice(offset, end))
        ended, offset = kind == b"IEND", end
    if not ended and data[offset + 4 : offset + 8] == b"IDAT":
        pixels.append(slice(offset + 8, len(data)))
        pixels_wrong = True
    return WholePng(
        data=_leave_out(data, left_out),
        wrong_checksum=wrong,
        cut=not ended,
        doubtful_pixels=tuple(data[part] for part in pixels) if pixels_wrong else (),
    )


def _leave_out(data: bytes, parts: list[slice]) -> bytes:
    for part in reversed(parts):
        data = data[: part.start] + data[part.stop :]
    return data
