"""Bytes -> RGB pixels: the one decoder that cleaning, training and prediction share."""

import io
import re
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from thaw.errors import DataError

Pixels = NDArray[np.uint8]
# Not all that Pillow can open: EPS would start Ghostscript, and nobody keeps photos in the rest.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SIGNATURE = re.compile(rb"BM|GIF8|\xff\xd8\xff|\x89PNG\r\n\x1a\n|P[1-6]\s|II\*\x00|MM\x00\*|RIFF....WEBP", re.DOTALL)
_END_MARKS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND", b"GIF8": b";"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the image upright (CIPA DC-008, tag 274; as in Pillow's ImageOps)."""
_LOAD_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""What Pillow may raise on broken images. It documents no list: 130,000 mutated files raised the first three (and its
own bomb error), and the rest is what parsers in Python raise when bytes are not what they expect."""
JPEG_QUALITY = 95
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_quiet_lock = threading.Lock()


class Fault(StrEnum):
    """Why bytes are not an image."""

    EMPTY = "empty file"
    NOT_AN_IMAGE = "not an image"
    TRUNCATED = "truncated"
    BROKEN = "broken"
    TOO_MANY_PIXELS = "too many pixels"


class UndecodableError(DataError):
    """These bytes are not a whole image; `fault` says why."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"cannot decode this image: {fault} ({detail})")
        self.fault = fault


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """A decoded image, and what its file said about itself."""

    pixels: Pixels
    """Shape (H, W, 3), RGB, upright."""
    width_px: int
    """Of the file, before it was turned upright (but of a TIFF after that: Pillow tells no other)."""
    height_px: int
    mode: str
    """Pillow's name of the pixel format: RGB, L, CMYK, P, ..."""
    format: str
    """Pillow's name of the file format: JPEG, PNG, ..."""
    exif_orientation: int
    """1 to 8; 1 is upright, and what a file without EXIF gets."""
    damaged: bool
    """A JPEG that Pillow decodes, but libjpeg-turbo complains about: parts of it may be grey or shifted."""
    plain: bool
    """Whether any decoder reads these very pixels from the file: upright 8-bit RGB in a JPEG or PNG."""


def decode(data: bytes, *, max_pixels: int) -> Pixels:
    """Decode an image file into upright RGB pixels, shape (H, W, 3); see `decode_image`."""
    return decode_image(data, max_pixels=max_pixels).pixels


def decode_image(data: bytes, *, max_pixels: int) -> DecodedImage:
    """Decode an image file completely: upright by its EXIF orientation, transparency over white, 16 bits cut to 8.

    Of a file with several frames, the first. Pillow's `load` decides what is an image. Sound RGB JPEGs, which is
    nearly all of them, are decoded by libjpeg-turbo's strict mode instead (simplejpeg): the same pixels, bit for bit
    (both are libjpeg-turbo; a test compares them), in 60 % of the time, and it sees damage that Pillow passes over.

    Raises:
        UndecodableError: the bytes are no whole image, or one of more than `max_pixels` pixels (or of more than
            178,956,970, where Pillow's own limit lies).
    """
    _quieten_pillow()
    if not data:
        raise UndecodableError(Fault.EMPTY, "0 bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _load(image, data, max_pixels)
    except Image.DecompressionBombError as error:
        raise UndecodableError(Fault.TOO_MANY_PIXELS, str(error)) from None
    except UnidentifiedImageError:
        raise UndecodableError(_fault_of_unidentified(data), f"starts with {data[:8]!r}") from None
    except _LOAD_ERRORS as error:
        fault = Fault.TRUNCATED if isinstance(error, EOFError) or "truncated" in str(error).lower() else Fault.BROKEN
        raise UndecodableError(fault, str(error) or type(error).__name__) from None


def resize_short_side(image: Image.Image, side_px: int) -> Image.Image:
    """Shrink an image until its short side is `side_px`; a smaller one comes back as it is.

    Hamming's filter averages over the same neighbourhood as a triangle's (so it costs the same, and does not alias),
    and is about as sharp as a bicubic one: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
    """
    short = min(image.size)
    if short <= side_px:
        return image
    width, height = (max(1, round(length * side_px / short)) for length in image.size)
    return image.resize((width, height), Image.Resampling.HAMMING)


def encode(image: Image.Image, *, lossless: bool) -> bytes:
    """Encode an RGB image as PNG, or as JPEG without chroma subsampling."""
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4", optimize=False)
    return buffer.getvalue()


def _quieten_pillow() -> None:
    """Switch off warnings that come from Pillow's modules (about odd metadata), for good.

    `warnings.catch_warnings` would do so for one block, but is not safe in threads before Python 3.14.
    """
    with _quiet_lock:
        if _QUIET not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.")


def _load(image: Image.Image, data: bytes, max_pixels: int) -> DecodedImage:
    width, height = image.size
    if width * height > max_pixels:
        raise UndecodableError(Fault.TOO_MANY_PIXELS, f"{width} x {height} is above {max_pixels:,}")
    # MPO is what Pillow calls a JPEG with more than one frame.
    file_format, mode, is_jpeg = str(image.format), image.mode, image.format in ("JPEG", "MPO")
    orientation = _read_orientation(image)
    strict = _decode_strictly(data, shape=(height, width, 3)) if is_jpeg else None
    if strict is not None and mode == "RGB":
        pixels, opaque = strict, True
    else:
        image.load()
        pixels, opaque = np.asarray(_to_rgb(image)), not image.has_transparency_data
    # Pillow turns TIFFs upright itself.
    turn = None if file_format == "TIFF" else _TURNS.get(orientation)
    if turn is not None:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turn))
    return DecodedImage(
        pixels=pixels,
        width_px=width,
        height_px=height,
        mode=mode,
        format=file_format,
        exif_orientation=orientation,
        damaged=is_jpeg and strict is None,
        plain=file_format in ("JPEG", "PNG") and mode == "RGB" and opaque and turn is None,
    )


def _read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; broken EXIF does not make an image broken, and counts as upright."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _LOAD_ERRORS:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _decode_strictly(data: bytes, *, shape: tuple[int, int, int]) -> Pixels | None:
    """The pixels of a JPEG in which libjpeg-turbo finds nothing to complain about, or None."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == shape else None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I"):
        # 16 bits a sample, also where Pillow holds them in 32.
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        # Floating-point samples have no agreed white: the brightest one is.
        samples = np.nan_to_num(np.asarray(image))
        lowest, highest = samples.min(), samples.max()
        image = Image.fromarray(np.interp(samples, [lowest, max(highest, lowest + 1e-9)], [0, 255]).astype(np.uint8))
    return image.convert("RGB")


def _fault_of_unidentified(data: bytes) -> Fault:
    """Bytes whose header Pillow cannot read: cut off, broken, or nothing like an image."""
    if not _SIGNATURE.match(data):
        return Fault.NOT_AN_IMAGE
    cut = any(data.startswith(start) and end not in data for start, end in _END_MARKS.items())
    return Fault.TRUNCATED if cut else Fault.BROKEN
