"""Views: the centre, and a random part.

Run with `pytest tests/data/test_transforms.py`.
"""

import numpy as np
import pytest
from PIL import Image

from thaw.data.decode import Pixels, encode
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import Preprocessing, centre_view, random_view
from thaw.utils.random_streams import random_stream

SMALL = Preprocessing(
    image_size_px=32, resize_px=40, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0)
)


def stored(pixels: Pixels) -> StoredImage:
    return StoredImage(encode(Image.fromarray(pixels), lossless=True), place="test")


def test_the_centre_is_what_is_seen() -> None:
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[6:74, 46:114] = 255  # the middle 80 % of the middle square, and what the resizing filter reaches around it
    view = centre_view(stored(pixels), SMALL)
    assert view.shape == (32, 32, 3)
    assert view.min() == 255


def test_a_random_view_depends_on_its_stream_alone() -> None:
    image = stored(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    views = [random_view(image, SMALL, random_stream(0, epoch)) for epoch in (1, 1, 2)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


@pytest.mark.parametrize("shape", [(32, 300), (300, 32), (16, 16), (256, 341)])
def test_a_random_view_lies_in_the_image(shape: tuple[int, int]) -> None:
    image = stored(np.full((*shape, 3), 200, np.uint8))
    for key in range(50):
        assert (random_view(image, SMALL, random_stream(0, key)) == 200).all()


def test_both_directions_occur() -> None:
    left_bright = np.zeros((40, 40, 3), np.uint8)
    left_bright[:, :20] = 255
    views = [random_view(stored(left_bright), SMALL, random_stream(3, key)) for key in range(200)]
    mirrored = sum(bool(view[:, 0].mean() < view[:, -1].mean()) for view in views)
    assert 60 < mirrored < 140
