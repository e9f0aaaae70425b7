"""Decoding at the size that a view needs: which sizes, what they look like, and what damage does.

Run with: pytest tests/data/test_stored_image.py
"""

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from thaw.data.decode import Pixels, encode
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import Preprocessing, centre_view, random_view
from thaw.errors import DataError
from thaw.utils.random_streams import random_stream

AT_96_PX = Preprocessing(
    image_size_px=96, resize_px=110, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)


def jpeg(pixels: Pixels) -> bytes:
    return encode(Image.fromarray(pixels), lossless=False)


def png(pixels: Pixels) -> bytes:
    return encode(Image.fromarray(pixels), lossless=True)


@pytest.fixture(scope="module")
def photo() -> Pixels:
    smooth = Image.fromarray(np.random.default_rng(3).integers(0, 256, (13, 17, 3), np.uint8))
    return np.asarray(smooth.resize((501, 375), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("most", "shrink", "shape"),
    [
        (0.5, 1, (375, 501)),
        (1.99, 1, (375, 501)),
        (2.0, 2, (188, 251)),
        (3.9, 2, (188, 251)),
        (4.0, 4, (94, 126)),
        (100.0, 8, (47, 63)),
    ],
)
def test_a_jpeg_is_divided_by_as_much_as_is_allowed(
    photo: Pixels, most: float, shrink: int, shape: tuple[int, int]
) -> None:
    image = StoredImage(jpeg(photo), place="test")
    assert (image.height_px, image.width_px) == (375, 501)
    pixels, made = image.shrunk_pixels(most)
    assert (pixels.shape[:2], made) == (shape, shrink)
    assert image.shrunk_pixels(most)[0] is pixels


def test_a_png_is_never_divided(photo: Pixels) -> None:
    pixels, shrink = StoredImage(png(photo), place="test").shrunk_pixels(8.0)
    assert np.array_equal(pixels, photo)
    assert shrink == 1


def test_views_are_those_of_the_whole_image(photo: Pixels) -> None:
    divided = StoredImage(jpeg(photo), place="test")
    whole = StoredImage(png(divided.pixels()), place="test")
    pairs = [(centre_view(image, AT_96_PX) for image in (divided, whole))]
    pairs += [(random_view(image, AT_96_PX, random_stream(0, key)) for image in (divided, whole)) for key in range(20)]
    for first, second in pairs:
        # A shift by half a pixel of the view would be ten times that.
        assert np.abs(first.astype(int) - second.astype(int)).mean() < 1.0


def test_a_damaged_jpeg_that_was_kept_is_read_whole(photo: Pixels) -> None:
    data = bytearray(jpeg(photo))
    data[-20:-2] = bytes(18)
    with pytest.raises(ValueError, match=r"."):
        simplejpeg.decode_jpeg(bytes(data), strict=True)
    pixels, shrink = StoredImage(bytes(data), place="test").shrunk_pixels(8.0)
    assert (pixels.shape, shrink) == ((375, 501, 3), 1)


def test_what_is_no_image_says_where_it_lies() -> None:
    with pytest.raises(DataError, match=r"^here: cannot decode this image: .*; run the clean stage again$"):
        StoredImage(b"nothing", place="here")
