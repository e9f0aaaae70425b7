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
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin

from thaw.data.decode import Damage, Fault, Pixels, UndecodableError, decode, decode_image, resize_short_side

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


def png_chunks(png: bytes) -> list[tuple[bytes, int, int]]:
    """The kind of each chunk of a PNG, and where it begins and ends."""
    found, offset = [], 8
    while offset < len(png):
        end = offset + 12 + int.from_bytes(png[offset : offset + 4])
        found.append((png[offset + 4 : offset + 8], offset, end))
        offset = end
    return found


def flipped(data: bytes, at: int) -> bytes:
    """The same bytes with one bit flipped."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def without_palette(png: bytes) -> bytes:
    start, end = next((start, end) for kind, start, end in png_chunks(png) if kind == b"PLTE")
    return png[:start] + png[end:]


def tiff(samples: NDArray[Any], **tags: Any) -> bytes:
    """A TIFF of grey samples, with tags by their numbers (`t281=...`)."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[int(name[1:])] = value
    return encoded("TIFF", Image.fromarray(samples), tiffinfo=info)


JPEG = encoded("JPEG", quality=95)
PNG = encoded("PNG")
GIF = encoded("GIF", drawing().quantize(256))
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
    "AVIF": (encoded("AVIF", quality=95), drawing(), 6),
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
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), Fault.UNSUPPORTED),
    "HEIC under its container's name": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), Fault.UNSUPPORTED),
    "half an AVIF": (encoded("AVIF")[:200], Fault.BROKEN),
    "JPEG XL": (b"\xff\x0a" + bytes(99), Fault.UNSUPPORTED),
    "JPEG XL in a container": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), Fault.UNSUPPORTED),
    "JPEG 2000": (b"\xff\x4f\xff\x51" + bytes(99), Fault.UNSUPPORTED),
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
    "a GIF without its colours": (GIF[:10] + bytes([GIF[10] & 0x7F]) + GIF[11:], Fault.BROKEN),
    "a GIF with junk before its frame": (GIF[: 13 + 768] + b"junk" + GIF[13 + 768 :], Fault.BROKEN),
    "a GIF whose frame is empty": (GIF[: GIF.index(b"\x2c", 781) + 10] + bytes(2) + b";", Fault.BROKEN),
    "a TIFF that lacks half of its strips": (
        encoded("TIFF").replace(struct.pack("<HHII", 278, 4, 1, 44), struct.pack("<HHII", 278, 4, 1, 22)),
        Fault.BROKEN,
    ),
    "a palette PNG without its palette": (without_palette(encoded("PNG", drawing().quantize(9))), Fault.BROKEN),
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
    assert decode_image(holed, max_pixels=MAX_PIXELS).damage is Damage.SCAN
    assert decode_image(jpeg, max_pixels=MAX_PIXELS).damage is None


@pytest.mark.parametrize("tag", [258, 262, 279])
def test_a_tiff_that_does_not_say_how_to_read_it_is_flagged(tag: int) -> None:
    grey = encoded("TIFF", drawing().convert("L"))
    entry = grey.index(struct.pack("<H", tag), 8)
    other_tag = struct.pack("<H", 60_000)
    assert decode_image(grey, max_pixels=MAX_PIXELS).damage is None
    image = decode_image(grey[:entry] + other_tag + grey[entry + 2 :], max_pixels=MAX_PIXELS)
    assert image.damage is Damage.TAG


def test_a_jpeg_that_lacks_only_its_end_is_flagged_and_decoded() -> None:
    whole, cut = (decode_image(data, max_pixels=MAX_PIXELS) for data in (JPEG, JPEG[:-2]))
    assert (cut.damage, cut.plain) == (Damage.NO_END, False)
    assert np.array_equal(cut.pixels, whole.pixels)


def test_a_progressive_jpeg_without_its_end_is_refused() -> None:
    # Nobody can tell whether a scan is missing that would make it sharp.
    with pytest.raises(UndecodableError, match="truncated"):
        decode(encoded("JPEG", progressive=True)[:-2], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_png_damaged_in_its_pixels_is_refused(mode: str) -> None:
    # Pillow loads a PNG to read its orientation; swallowing what is wrong with it left the image black.
    png = encoded("PNG", drawing().convert(mode))
    start, end = next((start, end) for kind, start, end in png_chunks(png) if kind == b"IDAT")
    for at in range(start + 8, end - 4, 97):
        with pytest.raises(UndecodableError):
            decode(flipped(png, at), max_pixels=MAX_PIXELS)


def test_a_png_with_a_wrong_checksum_beside_its_pixels_is_flagged_and_decoded() -> None:
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", "x" * 50)
    png = encoded("PNG", pnginfo=comment)
    starts = {kind: (start, end) for kind, start, end in png_chunks(png)}
    wrong = {
        "the comment": flipped(png, starts[b"tEXt"][0] + 20),
        "the comment's checksum": flipped(png, starts[b"tEXt"][1] - 1),
        "the checksum of the pixels": flipped(png, starts[b"IDAT"][1] - 1),
        "that of the end": flipped(png, len(png) - 1),
    }
    for where, data in wrong.items():
        image = decode_image(data, max_pixels=MAX_PIXELS)
        assert (image.damage, image.plain) == (Damage.CHECKSUM, False), where
        assert np.array_equal(image.pixels, np.asarray(drawing())), where
    image = decode_image(png[: starts[b"IDAT"][1]], max_pixels=MAX_PIXELS)
    assert (image.damage, image.plain) == (Damage.NO_END, False)
    assert np.array_equal(image.pixels, np.asarray(drawing()))


RAMP = np.linspace(0, 1, 256)[None, :].repeat(4, axis=0)
"""All greys, shape (4, 256)."""
DEEP = {
    "16 bits": (tiff((RAMP * 65535).astype(np.uint16)), ""),
    "12 bits in 16": (tiff((RAMP * 4095).astype(np.uint16)), "samples up to 4,095, read as 12 bits"),
    "12 bits in 16, which the tags say": (tiff((RAMP * 4095).astype(np.uint16), t281=4095), ""),
    "10 bits in a PNG of 16": (
        encoded("PNG", Image.fromarray((RAMP * 1023).astype(np.uint16))),
        "samples up to 1,023, read as 10 bits",
    ),
    "0 is white": (tiff(((1 - RAMP) * 65535).astype(np.uint16), t262=0), ""),
    "32-bit integers to 255": (tiff((RAMP * 255).astype(np.int32)), "samples up to 255, read as 8 bits"),
    "32-bit integers below 0": (
        tiff((RAMP * 1000 - 500).astype(np.int32)),
        "samples from -500 to 500, read as black to white",
    ),
    "floats to 1": (tiff(RAMP.astype(np.float32)), ""),
    "floats to 7": (tiff((RAMP * 7).astype(np.float32)), "samples from 0 to 7, read as black to white"),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_keep_their_greys(name: str) -> None:
    data, note = DEEP[name]
    image = decode_image(data, max_pixels=MAX_PIXELS)
    assert np.abs(image.pixels[..., 0] - RAMP * 255).max() <= 1
    assert image.notes == ((note,) if note else ())


def test_one_transparent_grey_of_16_bits_is_white_and_the_others_stay() -> None:
    grey = (RAMP * 65535).astype(np.uint16)
    data = encoded("PNG", Image.fromarray(grey), transparency=0)
    pixels = decode(data, max_pixels=MAX_PIXELS)
    assert (pixels[:, 0] == 255).all()
    assert np.abs(pixels[:, 1:, 0] - RAMP[:, 1:] * 255).max() <= 1


def test_infinite_samples_do_not_darken_the_others() -> None:
    samples = RAMP.astype(np.float32)
    samples[0, :2] = np.inf, np.nan
    pixels = decode(tiff(samples), max_pixels=MAX_PIXELS)
    assert np.abs(pixels[1:, :, 0] - RAMP[1:] * 255).max() <= 1


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "TIFF", "WEBP", "AVIF", "MPO"])
def test_of_several_frames_the_first_is_read_and_that_is_noted(file_format: str) -> None:
    data = encoded(file_format, save_all=True, append_images=[drawing().rotate(180)])
    image = decode_image(data, max_pixels=MAX_PIXELS)
    assert error_of(image.pixels, drawing()) < 8
    assert image.notes == ("the first of several frames",)
    assert decode_image(encoded(file_format), max_pixels=MAX_PIXELS).notes == ()


def test_libjpeg_in_strict_mode_and_pillow_agree_on_real_photos(shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "cats_vs_dogs_2002.zip") as archive:
        photos = [archive.read(f"PetImages/{label}/{number}.jpg") for label in ("Cat", "Dog") for number in range(40)]
    for photo in photos:
        decoded = decode_image(photo, max_pixels=MAX_PIXELS)
        with Image.open(io.BytesIO(photo)) as image:
            assert np.array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
        assert decoded.damage is None


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
