"""The decoder: what it makes of sound, odd and broken files, and that nothing but UndecodableError leaves it.

Run with `pytest tests/data/test_decode.py`.
"""

import io
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thaw.data.decode import Fault, Pixels, UndecodableError, decode, decode_image, resize_short_side

MAX_PIXELS = 1_000_000
WIDTH_PX, HEIGHT_PX = 60, 44


@cache
def drawing() -> Image.Image:
    """A smooth colourful image that is different in each corner."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX] / 60
    return Image.fromarray((np.stack([x, y, (1 - x) * (1 - y)], axis=-1) * 255).astype(np.uint8))


def encoded(file_format: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or drawing()).save(buffer, file_format, **options)
    return buffer.getvalue()


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def without_jfif(jpeg: bytes) -> bytes:
    assert jpeg[2:4] == b"\xff\xe0"
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6]) :]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def error_of(pixels: Pixels, expected: Image.Image) -> float:
    """The mean difference in grey levels; the shapes have to be the same."""
    wanted = np.asarray(expected.convert("RGB"), np.int16)
    assert pixels.shape == wanted.shape
    assert pixels.dtype == np.uint8
    return float(np.abs(pixels - wanted).mean())


JPEG = encoded("JPEG", quality=95)
PNG = encoded("PNG")
GREY16 = Image.fromarray(np.asarray(drawing().convert("L"), np.uint16) * 257)
HALF_TRANSPARENT = drawing().copy()
HALF_TRANSPARENT.putalpha(Image.new("L", HALF_TRANSPARENT.size, 0))

SOUND = {
    "JPEG": (JPEG, drawing(), 2),
    "JPEG without a JFIF header": (without_jfif(JPEG), drawing(), 2),
    "progressive JPEG": (encoded("JPEG", progressive=True, quality=95), drawing(), 2),
    "JPEG with restart markers": (encoded("JPEG", quality=95, restart_marker_blocks=2), drawing(), 2),
    "JPEG in RGB, not YCbCr": (encoded("JPEG", quality=95, keep_rgb=True), drawing(), 2),
    "CMYK JPEG": (encoded("JPEG", drawing().convert("CMYK"), quality=95), drawing(), 4),
    "greyscale JPEG": (encoded("JPEG", drawing().convert("L"), quality=95), drawing().convert("L"), 2),
    "JPEG with bytes after its end": (JPEG + b"junk" * 9, drawing(), 2),
    "JPEG with broken EXIF": (encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95), drawing(), 2),
    "JPEG with an impossible orientation": (encoded("JPEG", exif=with_orientation(99), quality=95), drawing(), 2),
    "JPEG with two frames (MPO)": (
        encoded("MPO", save_all=True, append_images=[drawing().rotate(180)], quality=95),
        drawing(),
        2,
    ),
    "PNG": (encoded("PNG"), drawing(), 0),
    "palette PNG": (encoded("PNG", drawing().quantize(256)), drawing(), 4),
    "black-and-white PNG": (encoded("PNG", drawing().convert("1")), drawing().convert("1"), 0),
    "16-bit PNG": (encoded("PNG", GREY16), drawing().convert("L"), 0),
    "transparent PNG": (encoded("PNG", HALF_TRANSPARENT), Image.new("RGB", (60, 44), "white"), 0),
    "PNG with one transparent grey": (
        encoded("PNG", Image.new("L", (9, 9), 7), transparency=7),
        Image.new("RGB", (9, 9), "white"),
        0,
    ),
    "animated PNG": (encoded("PNG", save_all=True, append_images=[drawing().rotate(180)]), drawing(), 0),
    "GIF": (encoded("GIF"), drawing(), 6),
    "animated GIF": (encoded("GIF", save_all=True, append_images=[drawing().rotate(180)]), drawing(), 6),
    "BMP": (encoded("BMP"), drawing(), 0),
    "TIFF": (encoded("TIFF"), drawing(), 0),
    "TIFF of floats": (
        encoded("TIFF", Image.fromarray(np.eye(8, dtype=np.float32) * 7)),
        Image.fromarray(np.eye(8) > 0),
        0,
    ),
    "WebP": (encoded("WEBP", quality=95), drawing(), 6),
    "PPM": (encoded("PPM"), drawing(), 0),
}

BROKEN = {
    "no bytes": (b"", Fault.EMPTY),
    "HTML": (b"<!DOCTYPE html><title>404</title>", Fault.NOT_AN_IMAGE),
    "text": (b"not found\n", Fault.NOT_AN_IMAGE),
    "zeros": (bytes(1000), Fault.NOT_AN_IMAGE),
    "a ZIP file": (b"PK\x03\x04" + bytes(100), Fault.NOT_AN_IMAGE),
    "an OLE file (Thumbs.db)": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500), Fault.NOT_AN_IMAGE),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Fault.NOT_AN_IMAGE),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', Fault.NOT_AN_IMAGE),
    "a JPEG without its first byte": (JPEG[1:], Fault.NOT_AN_IMAGE),
    "only a JPEG's signature": (JPEG[:3], Fault.TRUNCATED),
    "a JPEG's first 100 bytes": (JPEG[:100], Fault.TRUNCATED),
    "half a JPEG": (JPEG[: len(JPEG) // 2], Fault.TRUNCATED),
    "a JPEG without its last 40 bytes": (JPEG[:-40], Fault.TRUNCATED),
    "a JPEG whose size is 0": (JPEG.replace(struct.pack(">HH", 44, 60), bytes(4)), Fault.BROKEN),
    "a JPEG with 0xff for its tables": (JPEG[:25] + b"\xff" * 300 + JPEG[325:], Fault.BROKEN),
    "a PNG's first 20 bytes": (PNG[:20], Fault.TRUNCATED),
    "half a PNG": (PNG[: len(PNG) // 2], Fault.TRUNCATED),
    "a PNG with a flipped bit in its header": (PNG[:19] + bytes([PNG[19] ^ 1]) + PNG[20:], Fault.BROKEN),
    "a PNG that lacks its pixels": (png_of_size(60, 44), Fault.TRUNCATED),
    "a PNG bomb of 20,000 x 20,000": (png_of_size(20_000, 20_000), Fault.TOO_MANY_PIXELS),
    "a PNG bomb of 2,000 x 2,000": (png_of_size(2000, 2000), Fault.TOO_MANY_PIXELS),
    "half a GIF": (encoded("GIF")[:900], Fault.TRUNCATED),
    "a GIF's signature": (b"GIF89a", Fault.TRUNCATED),
    "half a BMP": (encoded("BMP")[:3000], Fault.TRUNCATED),
    "a BMP's signature": (b"BM", Fault.BROKEN),
    "half a WebP": (encoded("WEBP")[:100], Fault.BROKEN),
    "half a TIFF": (encoded("TIFF")[:3000], Fault.TRUNCATED),
    "half a PPM": (encoded("PPM")[:3000], Fault.TRUNCATED),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_decode_to_what_they_show(name: str) -> None:
    data, expected, tolerance = SOUND[name]
    assert error_of(decode(data, max_pixels=MAX_PIXELS), expected) <= tolerance


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_the_reason(name: str) -> None:
    data, fault = BROKEN[name]
    with pytest.raises(UndecodableError) as caught:
        decode(data, max_pixels=MAX_PIXELS)
    assert caught.value.fault == fault


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(file_format: str, orientation: int) -> None:
    # What a camera does that is held in each of the eight ways: the inverse of what EXIF asks the viewer to do.
    turned = np.asarray(drawing())
    stored = {
        1: turned,
        2: turned[:, ::-1],
        3: turned[::-1, ::-1],
        4: turned[::-1],
        5: turned.transpose(1, 0, 2),
        6: np.rot90(turned, 1),
        7: turned[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(turned, -1),
    }[orientation]
    data = encoded(
        file_format, Image.fromarray(np.ascontiguousarray(stored)), exif=with_orientation(orientation), quality=95
    )
    image = decode_image(data, max_pixels=MAX_PIXELS)
    assert error_of(image.pixels, drawing()) < 4
    assert image.exif_orientation == orientation
    if file_format != "TIFF":  # Pillow tells the size of a TIFF as it is when upright
        assert (image.width_px, image.height_px) == (stored.shape[1], stored.shape[0])
    assert image.plain == (orientation == 1 and file_format in ("JPEG", "PNG"))


def test_an_image_at_the_limit_of_pixels_decodes() -> None:
    assert decode(JPEG, max_pixels=WIDTH_PX * HEIGHT_PX).shape == (HEIGHT_PX, WIDTH_PX, 3)
    with pytest.raises(UndecodableError, match="60 x 44 is above 2,639"):
        decode(JPEG, max_pixels=WIDTH_PX * HEIGHT_PX - 1)


def test_a_hole_in_the_scan_is_flagged_and_decoded() -> None:
    jpeg = encoded("JPEG", drawing().resize((600, 440)), quality=95)
    holed = jpeg[:6000] + bytes(500) + jpeg[6500:]
    assert decode_image(holed, max_pixels=MAX_PIXELS).damaged
    assert not decode_image(jpeg, max_pixels=MAX_PIXELS).damaged


def test_libjpeg_in_strict_mode_and_pillow_agree_on_real_photos(shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "cats_vs_dogs_2002.zip") as archive:
        photos = [archive.read(f"PetImages/{label}/{number}.jpg") for label in ("Cat", "Dog") for number in range(40)]
    for photo in photos:
        decoded = decode_image(photo, max_pixels=MAX_PIXELS)
        with Image.open(io.BytesIO(photo)) as image:
            assert np.array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
        assert not decoded.damaged


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """A file of any format with some of its bytes overwritten, and perhaps cut off."""
    data = bytearray(draw(st.sampled_from([data for data, _, _ in SOUND.values()])))
    for _ in range(draw(st.integers(1, 8))):
        # Headers are where parsers go wrong.
        at = draw(st.integers(0, min(len(data) - 1, draw(st.sampled_from([40, 400, 100_000])))))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
        if not data:
            break
    return bytes(data[: draw(st.integers(0, 2 * len(data)))])


@given(mutated_files())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_mutated_files_decode_or_raise_undecodable_error(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = decode_image(data, max_pixels=MAX_PIXELS)
        except UndecodableError as error:
            assert "\n" not in str(error)  # noqa: PT017
            return
    height, width, channels = image.pixels.shape
    assert height * width <= MAX_PIXELS
    assert channels == 3


@given(st.binary(max_size=200))
@settings(derandomize=True)
def test_arbitrary_bytes_are_no_image(data: bytes) -> None:
    with pytest.raises(UndecodableError):
        decode(data, max_pixels=MAX_PIXELS)


def test_pillows_warnings_do_not_leak_from_threads() -> None:
    odd, _, _ = SOUND["JPEG with broken EXIF"]
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("always")
        list(pool.map(lambda _: decode(odd, max_pixels=MAX_PIXELS), range(40)))
    assert caught == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((600, 300), (128, 64)),
        ((300, 601), (64, 128)),
        ((64, 90), (64, 90)),
        ((40, 90), (40, 90)),
        ((1, 900), (1, 900)),
    ],
)
def test_the_short_side_is_shrunk_and_never_grown(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_short_side(Image.new("RGB", size), 64).size == expected


def test_shrinking_keeps_what_the_image_shows() -> None:
    small = resize_short_side(drawing().resize((600, 440), Image.Resampling.BICUBIC), HEIGHT_PX)
    assert error_of(np.asarray(small), drawing()) < 1


def test_decoding_needs_no_torch() -> None:
    code = "import sys, thaw.data.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
