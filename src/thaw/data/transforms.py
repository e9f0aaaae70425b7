"""Pixels -> views, the squares that a network is shown."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from thaw.data.decode import Pixels
from thaw.data.stored_image import StoredImage


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How a view is cut from an image."""

    image_size_px: int
    """Images are squares of this side."""

    resize_px: int
    """The short side is brought to this before the square is cut from the middle."""

    interpolation: Literal["bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Crop):
    """What a backbone wants to be shown; it was trained on images prepared like this."""

    mean: tuple[float, float, float]
    """Subtracted from each channel, of pixels in [0, 1]."""

    std: tuple[float, float, float]
    """What each channel is divided by then."""


def centre_view(image: StoredImage, crop: Crop) -> Pixels:
    """Resize the short side and cut the middle square: how an image is looked at when nothing is learnt.

    Returns:
        Shape `(S, S, 3)`, uint8.

    Raises:
        DataError: the image is damaged.
    """
    height, width = image.height_px, image.width_px
    side = min(height, width) * crop.image_size_px / crop.resize_px
    left, top = (width - side) / 2, (height - side) / 2
    return _resize(image, (left, top, left + side, top + side), crop)


def random_view(image: StoredImage, crop: Crop, random: np.random.Generator) -> Pixels:
    """A random part of the image, possibly mirrored: the usual augmentation (Szegedy et al., CVPR 2015).

    The part covers 35 to 100 % of the area and is up to a third wider than high, or higher than wide. Shapes and
    dtypes are those of `centre_view`.
    """
    height, width = image.height_px, image.width_px
    area = height * width * random.uniform(0.35, 1.0)
    aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    part_width = min(width, float(np.sqrt(area * aspect)))
    part_height = min(height, float(np.sqrt(area / aspect)))
    left = random.uniform(0, width - part_width)
    top = random.uniform(0, height - part_height)
    view = _resize(image, (left, top, left + part_width, top + part_height), crop)
    return view[:, ::-1] if random.random() < 0.5 else view


def _resize(image: StoredImage, box: tuple[float, float, float, float], crop: Crop) -> Pixels:
    """The part of an image in `box` (left, top, right, bottom) as a square.

    The image is decoded at the smallest size at which that part still has at least as many pixels as the square:
    at 96 px that takes half the time, and it looks the same (a test says how much it differs).
    """
    left, top, right, bottom = box
    pixels, shrink = image.shrunk_pixels(min(right - left, bottom - top) / crop.image_size_px)
    part = (left / shrink, top / shrink, right / shrink, bottom / shrink)
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    size = (crop.image_size_px, crop.image_size_px)
    resized = Image.fromarray(pixels).resize(size, resample[crop.interpolation], box=part)
    return np.asarray(resized)
