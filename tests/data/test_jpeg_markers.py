"""Which JPEGs are decoded without Pillow, and that nothing about them changes.

Run with `pytest tests/data/test_jpeg_markers.py`.
"""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from data.image_fixtures import encoded, image
from thaw.data import decode as decoding
from thaw.data.decode import decode_image
from thaw.data.jpeg_markers import has_plain_header

EXIF = Image.Exif()
EXIF[0x0112] = 6
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/>"
JPEGS = {
    "plain": (encoded(image(1)), True),
    "progressive": (encoded(image(2), progressive=True), True),
    "commented": (encoded(image(3), comment=b"no \xff\xda here"), True),
    "grey": (encoded(image(4).convert("L")), True),
    "in RGB": (encoded(image(5), keep_rgb=True), False),
    "CMYK": (encoded(image(6).convert("CMYK")), False),
    "turned by EXIF": (encoded(image(7), exif=EXIF), False),
    "turned by XMP": (encoded(image(8), xmp=XMP), False),
    "of two frames": (encoded(image(9), "MPO", save_all=True, append_images=[image(10)]), False),
    "with a profile": (encoded(image(11), icc_profile=b"profile"), False),
}


@pytest.mark.parametrize("name", JPEGS)
def test_the_short_way_ends_where_the_long_way_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, plain = JPEGS[name]
    assert has_plain_header(data) == plain
    short = decode_image(data, max_pixels=10_000)
    monkeypatch.setattr(decoding, "has_plain_header", lambda _: False)
    long = decode_image(data, max_pixels=10_000)
    for field in dataclasses.fields(short):
        assert np.array_equal(getattr(short, field.name), getattr(long, field.name)), field.name


def test_any_beginning_of_a_header_is_no_header() -> None:
    data = JPEGS["plain"][0]
    scan = data.index(b"\xff\xda")
    assert not any(has_plain_header(data[:end]) for end in range(scan))
