"""Damage images of every format in every way, and compare what the decoder makes of them with independent decoders.

    apt-get install libjpeg-turbo-progs
    pip install --target /tmp/decoders --no-deps imagecodecs opencv-python-headless
    PYTHONPATH=src:/tmp/decoders python tools/fuzz_decode.py [--files 2000]

The independent decoders (libpng, giflib, libwebp and libavif by imagecodecs; libtiff and a reader of BMP by OpenCV; ten
lines for PPM) are no dependency of the project. A JPEG is read by Pillow, which most JPEGs never meet here, and
refused where djpeg complains. The first bytes, which say what format it is, are left alone: without them a file is not
taken for an image. A damaged file is

- sound, if they read the same pixels from it as from the whole file: it must be kept, and read alike;
- broken, if they refuse it: it must be refused or marked, unless the pixels are those of the whole file;
- changed, if they read other pixels: no format but PNG has checksums, so nobody can know. Where each reads something
  else, the file itself leaves it open (of a GIF, what is around the first frame), and that is counted; of a JPEG it is
  a mistake, since Pillow and this project both read it by libjpeg-turbo.

Prints a table and the first files of each kind that went wrong, and ends with 1 if there is one.
"""

import argparse
import io
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from thaw.data.decode import Pixels, UndecodableError, decode_image

MAX_PIXELS = 1_000_000
SIZE_PX = (96, 72)
SIGNATURE_BYTES = {"JPEG": 3, "PNG": 8, "GIF": 6, "BMP": 2, "TIFF": 4, "WEBP": 12, "AVIF": 12, "PPM": 2}
HEADER_BYTES = {"JPEG": 650}
"""Where parsers go wrong; of other formats 200."""
MISTAKES = ("broken, kept unmarked", "sound, lost", "sound, misread", "changed, misread")
MAX_DIFFERENCE = 3.0
"""Mean, in grey levels: decoders convert colours a little differently."""
Decoder = Callable[[bytes], Any]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Damage images, and compare decoders.")
    parser.add_argument("--files", type=int, default=2000, help="damaged files of each format")
    parser.add_argument("--formats", nargs="*", help="all, if left out")
    arguments = parser.parse_args()
    os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
    mistakes = 0
    for name, decoder in independent_decoders().items():
        if arguments.formats and name not in arguments.formats:
            continue
        counts: Counter[str] = Counter()
        wrong: dict[str, list[str]] = {}
        for original, damaged, how in damaged_files(name, arguments.files):
            verdict = judge(original, damaged, decoder)
            counts[verdict] += 1
            if verdict in MISTAKES:
                wrong.setdefault(verdict, []).append(how)
        table = ", ".join(f"{verdict} {count:,}" for verdict, count in sorted(counts.items()))
        print(f"{name}: {counts.total():,} damaged files: {table}")
        for verdict, hows in wrong.items():
            print(f"    {verdict}: {'; '.join(hows[:5])}")
        mistakes += sum(counts[verdict] for verdict in MISTAKES)
    print(f"{mistakes} mistakes")
    sys.exit(bool(mistakes))


def independent_decoders() -> dict[str, Decoder]:
    """Format -> bytes to samples."""
    import cv2
    import imagecodecs

    def by_opencv(data: bytes) -> Any:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError("refused")
        return image[..., ::-1]

    def read_bmp(data: bytes) -> Any:
        # OpenCV takes every number for the size of the header; there are only these.
        if int.from_bytes(data[14:18], "little") not in (12, 16, 40, 52, 56, 64, 108, 124):
            raise ValueError("no such header")
        return by_opencv(data)

    return {
        "JPEG": read_jpeg,
        "PNG": imagecodecs.png_decode,
        "GIF": lambda data: imagecodecs.gif_decode(data, index=0),
        "BMP": read_bmp,
        "TIFF": by_opencv,
        "WEBP": imagecodecs.webp_decode,
        "AVIF": lambda data: imagecodecs.avif_decode(data, index=0),
        "PPM": read_ppm,
    }


@cache
def read_jpeg(data: bytes) -> Any:
    """The samples that Pillow reads, upright; ValueError where libjpeg-turbo's own program complains."""
    if subprocess.run(["djpeg"], input=data, capture_output=True, check=False).returncode:
        raise ValueError("djpeg complains")
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        image.load()
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def read_ppm(data: bytes) -> Any:
    """The samples of a binary PGM or PPM without comments, as netpbm's documentation has it."""
    match = re.match(rb"P([56])\s+(\d+)\s+(\d+)\s+(\d+)\s", data)
    if match is None:
        raise ValueError("no header")
    kind, width, height, white = map(int, match.groups())
    if not 0 < white < 256:
        raise ValueError("not of 8 bits")
    samples = np.frombuffer(data, np.uint8, width * height * (3 if kind == 6 else 1), match.end())
    return np.rint(samples.reshape(height, width, -1).clip(0, white) * (255 / white)).astype(np.uint8)


def draw_originals(file_format: str) -> Iterator[tuple[str, bytes]]:
    """Whole files of one format, in the ways that people's programs write it."""
    y, x = np.mgrid[: SIZE_PX[1], : SIZE_PX[0]] / 90
    noise = np.random.default_rng(0).integers(0, 20, (*x.shape, 3))
    image = Image.fromarray((np.stack([x, y, (1 - x) ** 2], axis=-1) * 220 + noise).clip(0, 255).astype(np.uint8))
    grey, palette = image.convert("L"), image.quantize(64)
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    kinds: dict[str, list[tuple[Image.Image, dict[str, Any]]]] = {
        "JPEG": [
            (image, {}),
            (image, {"quality": 95, "subsampling": "4:4:4", "optimize": True, "comment": b"fuzz"}),
            (image, {"progressive": True}),
            (image, {"subsampling": "4:2:2", "restart_marker_rows": 1}),
            (image, {"exif": turned}),
            (image, {"keep_rgb": True}),
            (grey, {}),
            (image.convert("CMYK"), {}),
        ],
        "PNG": [(image, {}), (grey, {}), (palette, {}), (deep, {}), (image, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"})],
        "GIF": [(palette, {}), (grey, {}), (palette, {"interlace": 0})],
        "BMP": [(image, {}), (grey, {}), (palette, {})],
        "TIFF": [
            (image, {"compression": kind}) for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ]
        + [(grey, {}), (deep, {})],
        "WEBP": [(image, {"quality": 80}), (image, {"lossless": True})],
        "AVIF": [(image, {"quality": 60}), (image, {"quality": 90})],
        "PPM": [(image, {}), (grey, {})],
    }
    for one, options in kinds[file_format]:
        buffer = io.BytesIO()
        one.save(buffer, file_format, **options)
        yield f"{one.mode} {options}", buffer.getvalue()


def damaged_files(file_format: str, count: int) -> Iterator[tuple[bytes, bytes, str]]:
    """Whole files, each with a damaged copy, and what was done to it."""
    originals = list(draw_originals(file_format))
    rng = random.Random(0)
    for number in range(count):
        name, original = originals[number % len(originals)]
        # Half of the damage goes into the first bytes, where parsers go wrong.
        end = len(original) if rng.random() < 0.5 else HEADER_BYTES.get(file_format, 200)
        at = rng.randrange(SIGNATURE_BYTES[file_format], end)
        kind, length = rng.choice(("flip", "cut", "zero")), rng.choice((1, 4, 64))
        damaged = bytearray(original)
        if kind == "flip":
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            # Also the last few bytes alone.
            at = rng.choice((at, len(original) - rng.randrange(1, 30)))
            del damaged[at:]
        else:
            damaged[at : at + length] = bytes(len(damaged[at : at + length]))
        if damaged != original:
            yield (
                original,
                bytes(damaged),
                f"{name}, {kind}{length if kind == 'zero' else ''} at {at} of {len(original)}",
            )


def judge(original: bytes, damaged: bytes, decoder: Decoder) -> str:
    """What became of one damaged file."""
    theirs, theirs_whole = read_independently(damaged, decoder), read_independently(original, decoder)
    assert theirs_whole is not None
    ours, marked = read(damaged)
    whole, _ = read(original)
    assert whole is not None
    assert differ(whole, theirs_whole) <= MAX_DIFFERENCE
    if theirs is not None and np.array_equal(theirs, theirs_whole):
        if ours is None:
            return "sound, lost"
        # Of 16 bits, the lower ones may be damaged.
        alike = ours.shape == whole.shape and np.abs(ours.astype(int) - whole).max() <= 1
        return "sound, kept" if alike else "sound, misread"
    if ours is None:
        return "refused"
    if marked:
        return "marked"
    if np.array_equal(ours, whole):
        return "kept, pixels as in the whole file"
    if theirs is None:
        return "broken, kept unmarked"
    if decoder is read_jpeg:
        return "changed, read alike" if np.array_equal(ours, theirs) else "changed, misread"
    return "changed, read alike" if differ(ours, theirs) <= MAX_DIFFERENCE else "changed, read otherwise"


def read(data: bytes) -> tuple[Pixels | None, bool]:
    """The project's reading of a file, and whether it is marked as damaged."""
    try:
        image = decode_image(data, max_pixels=MAX_PIXELS)
    except UndecodableError:
        return None, False
    return image.pixels, image.damage is not None


def read_independently(data: bytes, decoder: Decoder) -> Pixels | None:
    """Another decoder's reading, as 8-bit RGB over white."""
    try:
        samples = np.asarray(decoder(data))
    except Exception:
        return None
    if samples.dtype == np.uint16:
        samples = np.rint(samples / 257)
    if samples.ndim == 2:
        samples = samples[..., None].repeat(3, axis=-1)
    if samples.ndim != 3:
        return None
    if samples.shape[-1] in (2, 4):
        opacity = samples[..., -1:] / 255
        samples = samples[..., :-1] * opacity + 255 * (1 - opacity)
    return np.broadcast_to(samples, (*samples.shape[:2], 3)).astype(np.uint8)


def differ(left: Pixels, right: Pixels) -> float:
    """The mean difference; infinite between images of two sizes."""
    return float(np.abs(left.astype(int) - right).mean()) if left.shape == right.shape else float("inf")


if __name__ == "__main__":
    main()
