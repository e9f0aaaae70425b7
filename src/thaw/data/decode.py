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
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from thaw.data.gif_blocks import require_first_frame
from thaw.data.jpeg_markers import has_plain_header
from thaw.data.png_chunks import WholePng, check_png, is_png
from thaw.data.samples import scale_samples
from thaw.data.tiff_tags import lacks_tags, require_all_strips
from thaw.errors import DataError

Pixels = NDArray[np.uint8]
# Not all that Pillow can open: EPS would start Ghostscript, and nobody keeps photos in the rest.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SIGNATURE = re.compile(
    rb"BM|GIF8|\xff\xd8\xff|\x89PNG\r\n\x1a\n|P[1-6]\s|II\*\x00|MM\x00\*|RIFF....WEBP|....ftypavi[fs]", re.DOTALL
)
_UNSUPPORTED = {
    "HEIC": re.compile(rb"....ftyp(?:he[iv][cmsx]|(?:mif1|msf1)(?!.{0,64}avi[fs]))", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"),
    "JPEG 2000": re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n"),
    "Photoshop": re.compile(rb"8BPS\x00[\x01\x02]"),
    "OpenEXR": re.compile(rb"v/1\x01"),
    "DICOM": re.compile(rb".{128}DICM", re.DOTALL),
}
"""Images that people keep among photos, and that are not read: of the plugins for the first two, pillow-heif 1.8.1 and
pillow-jxl-plugin 1.3.8, the wheels are under the GPL (x265, and the plugin itself), and this project is not."""
_END_MARKS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND", b"GIF8": b";"}
_JPEG_END = b"\xff\xd9"
_MAX_BYTES_PER_PIXEL = 10
"""Of a PNG before it is compressed: four samples of 16 bits, and what its rows begin with."""
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
    RuntimeError,
    AssertionError,
    AttributeError,
    struct.error,
    zlib.error,
)
"""What Pillow may raise on broken images. It documents no list: 130,000 mutated files raised the first three (and its
own bomb error), a broken AVIF RuntimeError, a PNG that lost its colours AssertionError; and the rest is what parsers in
Python raise when bytes are not what they expect."""
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
    UNSUPPORTED = "unsupported format"


class Damage(StrEnum):
    """What is wrong with a file whose image is decoded all the same."""

    SCAN = "damaged scan"
    """A JPEG that Pillow decodes, but libjpeg-turbo complains about: parts of it may be grey or shifted."""
    CHECKSUM = "wrong checksum"
    """A PNG whose pixels are sound, and of which another chunk (or a checksum itself) is not."""
    NO_END = "no end mark"
    """A JPEG or PNG that was cut behind its last pixel."""
    TAG = "missing tag"
    """A TIFF that does not say how its samples are to be read, so that Pillow guesses."""


class UndecodableError(DataError):
    """These bytes are not a whole image; `fault` says why."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"cannot decode this image: {fault} ({detail})")
        self.fault = fault
        self.detail = detail


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
    damage: Damage | None
    plain: bool
    """Whether any decoder reads these very pixels from the file: upright 8-bit RGB in a JPEG or PNG."""
    notes: tuple[str, ...] = ()
    """What was decided about the file that people may want to know: which frame, and how its samples were scaled."""


def decode(data: bytes, *, max_pixels: int) -> Pixels:
    """Decode an image file into upright RGB pixels, shape (H, W, 3); see `decode_image`."""
    return decode_image(data, max_pixels=max_pixels).pixels


def decode_image(data: bytes, *, max_pixels: int) -> DecodedImage:
    """Decode an image file completely: upright by its EXIF orientation, transparency over white, 8 bits a sample.

    Of a file with several frames or pages, the first. How more than 8 bits become 8, `thaw.data.samples` says.
    Pillow's `load` decides what is an image. Sound RGB JPEGs, which is nearly all of them, are decoded by
    libjpeg-turbo's strict mode instead (simplejpeg): the same pixels, bit for bit (both are libjpeg-turbo; a test
    compares them), and it sees damage that Pillow passes over. Pillow does not look at the checksums of a PNG's
    pixels, and refuses one for that of a comment: `thaw.data.png_chunks` checks them, as libpng does.

    Raises:
        UndecodableError: the bytes are no whole image, or one of more than `max_pixels` pixels (or of more than
            178,956,970, where Pillow's own limit lies).
    """
    _quieten_pillow()
    if not data:
        raise UndecodableError(Fault.EMPTY, "0 bytes")
    plain = _decode_plain_jpeg(data, max_pixels=max_pixels)
    if plain is not None:
        return plain
    png = check_png(data) if is_png(data) else None
    try:
        with Image.open(io.BytesIO(png.data if png else data), formats=FORMATS) as image:
            return _load(image, data, png, max_pixels)
    except Image.DecompressionBombError as error:
        raise UndecodableError(Fault.TOO_MANY_PIXELS, str(error)) from None
    except UnidentifiedImageError:
        raise _explain_unidentified(data) from None
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


def _load(image: Image.Image, data: bytes, png: WholePng | None, max_pixels: int) -> DecodedImage:
    width, height = image.size
    if width * height > max_pixels:
        raise UndecodableError(Fault.TOO_MANY_PIXELS, f"{width} x {height} is above {max_pixels:,}")
    file_format, mode = str(image.format), image.mode
    if file_format == "GIF":
        require_first_frame(data)
    # Pillow turns TIFFs upright itself while it loads them, and forgets how they were.
    orientation = _read_orientation(image) if file_format == "TIFF" else 1
    damage: Damage | None = None
    notes: list[str] = []
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        require_all_strips(image.tag_v2)
        damage = Damage.TAG if lacks_tags(image.tag_v2, data) else None
    # MPO is what Pillow calls a JPEG with more than one frame.
    if file_format in ("JPEG", "MPO"):
        pixels, damage = _load_jpeg(image, data)
        opaque = True
    else:
        image.load()
        opaque = not image.has_transparency_data
        pixels, notes = _to_rgb(image)
    if png:
        png.require_whole_pixels(max_bytes=_MAX_BYTES_PER_PIXEL * max_pixels)
        damage = Damage.CHECKSUM if png.wrong_checksum else Damage.NO_END if png.cut else None
    # Not before the image is loaded: of a PNG this would load it, and swallow what is wrong with it.
    if file_format != "TIFF":
        orientation = _read_orientation(image)
        if orientation in _TURNS:
            pixels = np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation]))
    if _has_more_frames(image):
        notes.append("the first of several frames")
    return DecodedImage(
        pixels=pixels,
        width_px=width,
        height_px=height,
        mode=mode,
        format=file_format,
        exif_orientation=orientation,
        damage=damage,
        plain=file_format in ("JPEG", "PNG")
        and mode == "RGB"
        and opaque
        and orientation == 1
        and damage in (None, Damage.SCAN),
        notes=tuple(notes),
    )


def _decode_plain_jpeg(data: bytes, *, max_pixels: int) -> DecodedImage | None:
    """A sound JPEG whose header says nothing but what the image is made of; None if there is more to look at.

    Most photos on the web are such. Pillow's reading of the header would take a tenth of the whole time, and hold
    Python's lock.
    """
    if not has_plain_header(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours != "YCbCr" or width * height > min(max_pixels, Image.MAX_IMAGE_PIXELS or 0):
        return None
    pixels = _decode_strictly(data, shape=(height, width, 3))
    if pixels is None:
        return None
    return DecodedImage(
        pixels=pixels,
        width_px=width,
        height_px=height,
        mode="RGB",
        format="JPEG",
        exif_orientation=1,
        damage=None,
        plain=True,
    )


def _load_jpeg(image: Image.Image, data: bytes) -> tuple[Pixels, Damage | None]:
    """The pixels of a JPEG, and what is wrong with it."""
    shape = (image.height, image.width, 3)
    strict = _decode_strictly(data, shape=shape)
    if strict is not None and image.mode == "RGB":
        return strict, None
    try:
        image.load()
    except OSError:
        # Nothing to complain about but the missing end: all pixels are there. (A progressive JPEG may end after any of
        # its scans, and be a blurred image.)
        whole = None if image.info.get("progressive") else _decode_strictly(data + _JPEG_END, shape=shape)
        if whole is None or image.mode != "RGB":
            raise
        return whole, Damage.NO_END
    return _to_rgb(image)[0], None if strict is not None else Damage.SCAN


def _read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; broken EXIF does not make an image broken, and counts as upright."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _LOAD_ERRORS:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _has_more_frames(image: Image.Image) -> bool:
    """Whether an animation, or another page, follows; also if it is broken."""
    try:
        return bool(getattr(image, "is_animated", False))
    except _LOAD_ERRORS:
        return True


def _decode_strictly(data: bytes, *, shape: tuple[int, int, int]) -> Pixels | None:
    """The pixels of a JPEG in which libjpeg-turbo finds nothing to complain about, or None."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == shape else None


def _to_rgb(image: Image.Image) -> tuple[Pixels, list[str]]:
    """The pixels of a loaded image, shape (H, W, 3), and what there is to say about its samples."""
    notes: list[str] = []
    if image.mode.startswith("I") or image.mode == "F":
        grey, note = scale_samples(image)
        notes += [note] if note else []
        image = Image.fromarray(grey)
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB")), notes


def _explain_unidentified(data: bytes) -> UndecodableError:
    """Bytes whose header Pillow cannot read: cut off, broken, in another format, or nothing like an image."""
    for name, signature in _UNSUPPORTED.items():
        if signature.match(data):
            return UndecodableError(Fault.UNSUPPORTED, f"{name} image: convert it to JPEG or PNG")
    fault = Fault.NOT_AN_IMAGE
    if _SIGNATURE.match(data):
        cut = any(data.startswith(start) and end not in data for start, end in _END_MARKS.items())
        fault = Fault.TRUNCATED if cut else Fault.BROKEN
    return UndecodableError(fault, f"starts with {data[:8]!r}")
