"""images.zip: the form in which images are stored, and that many threads read what was written or hear what is wrong.

Run with `pytest tests/data/test_image_zip.py`.
"""

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw.data.decode import decode_image, encode
from thaw.data.image_zip import ImageZip, encode_for_storage, write_images
from thaw.errors import DataError

MAX_PIXELS = 1_000_000


def encoded(file_format: str, **options: Any) -> bytes:
    """A smooth colourful image of 60 x 44 pixels."""
    y, x = np.mgrid[:44, :60] / 60
    pixels = (np.stack([x, y, (1 - x) * (1 - y)], axis=-1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


JPEG = encoded("JPEG", quality=95)


def stored(data: bytes, *, side_px: int) -> bytes:
    return encode_for_storage(decode_image(data, max_pixels=MAX_PIXELS), data, side_px=side_px)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_plain_image_that_is_small_enough_keeps_its_bytes(file_format: str) -> None:
    data = encoded(file_format)
    assert stored(data, side_px=44) == data
    assert stored(data, side_px=43) != data


@pytest.mark.parametrize(
    ("data", "side_px", "file_format", "size"),
    [
        (JPEG, 22, "JPEG", (30, 22)),
        (encoded("PNG"), 22, "JPEG", (30, 22)),
        (encoded("BMP"), 44, "PNG", (60, 44)),
        (encoded("TIFF"), 22, "JPEG", (30, 22)),
        (encoded("WEBP"), 44, "JPEG", (60, 44)),
        (encoded("JPEG", exif=sideways()), 44, "JPEG", (44, 60)),
        (encoded("PNG", exif=sideways()), 44, "PNG", (44, 60)),
    ],
    ids=["JPEG", "PNG", "BMP", "large TIFF", "WebP", "turned JPEG", "turned PNG"],
)
def test_other_images_become_png_if_nothing_is_lost_by_it_and_else_jpeg(
    data: bytes, side_px: int, file_format: str, size: tuple[int, int]
) -> None:
    made = stored(data, side_px=side_px)
    with Image.open(io.BytesIO(made)) as image:
        assert (image.format, image.size, image.mode) == (file_format, size, "RGB")
    again = decode_image(made, max_pixels=MAX_PIXELS)
    assert again.plain
    if file_format == "PNG":
        assert np.array_equal(again.pixels, decode_image(data, max_pixels=MAX_PIXELS).pixels)


def test_images_are_packed_in_order_and_the_same_each_time(tmp_path: Path) -> None:
    images = [("b.jpg", JPEG), ("a.jpg", JPEG[::-1])]
    for name in ("one.zip", "two.zip"):
        write_images(tmp_path / name, iter(images))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["b.jpg", "a.jpg"]
        assert archive.read("a.jpg") == JPEG[::-1]


def test_images_file_reads_from_many_threads_what_was_written(tmp_path: Path) -> None:
    contents = {f"a/{i}.png": encode(Image.new("RGB", (i + 1, 3), (i, 0, 0)), lossless=True) for i in range(60)}
    write_images(tmp_path / "images.zip", reversed(contents.items()))
    with ImageZip(tmp_path / "images.zip") as images, ThreadPoolExecutor(8) as pool:
        assert images.paths == sorted(contents)
        assert list(pool.map(images.read, list(contents) * 5)) == list(contents.values()) * 5
        assert images.read_image("a/7.png").pixels().tolist() == [[[7, 0, 0]] * 8] * 3


def write_one_image(path: Path, data: bytes, *, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/1.jpg", data)


def test_a_missing_or_damaged_image_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    write_one_image(path, JPEG)
    with ImageZip(path) as images, pytest.raises(DataError, match=r"images\.zip holds no image 'a/2.jpg'"):
        images.read("a/2.jpg")
    whole = path.read_bytes()
    at = whole.index(JPEG) + 300
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with ImageZip(path) as images, pytest.raises(DataError, match=r"images\.zip is damaged at 'a/1.jpg'"):
        images.read_image("a/1.jpg").pixels()
    write_one_image(path, JPEG[:-40])
    with ImageZip(path) as images, pytest.raises(DataError, match=r"'a/1.jpg': cannot decode .* truncated"):
        images.read_image("a/1.jpg").pixels()
    write_one_image(path, JPEG, compression=zipfile.ZIP_DEFLATED)
    with ImageZip(path) as images, pytest.raises(DataError, match=r"damaged at 'a/1.jpg'"):
        images.read_image("a/1.jpg").pixels()


def test_a_missing_or_damaged_file_of_images_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.zip does not exist: run the clean stage"):
        ImageZip(tmp_path / "no.zip")
    (tmp_path / "bad.zip").write_bytes(b"PK but no archive")
    with pytest.raises(DataError, match=r"bad\.zip is damaged"):
        ImageZip(tmp_path / "bad.zip")


def test_images_cut_short_under_the_reader_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    write_one_image(path, JPEG)
    with ImageZip(path) as images:
        os.truncate(path, 10)
        with pytest.raises(DataError, match="damaged"):
            images.read("a/1.jpg")


def test_another_archive_has_another_fingerprint(tmp_path: Path) -> None:
    def fingerprint(*images: tuple[str, bytes]) -> str:
        write_images(tmp_path / "images.zip", images)
        with ImageZip(tmp_path / "images.zip") as archive:
            return archive.fingerprint()

    first = fingerprint(("a", b"1"), ("b", b"2"))
    assert fingerprint(("b", b"2"), ("a", b"1")) == first
    others = [fingerprint(("a", b"1")), fingerprint(("a", b"1"), ("c", b"2")), fingerprint(("a", b"1"), ("b", b"3"))]
    assert first not in others
