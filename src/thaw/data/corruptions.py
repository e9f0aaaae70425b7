"""Pixels -> corrupted pixels: noise, blur and loss of detail at five severities, which no model was trained on.

Formulas and numbers are those of ImageNet-C (Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations, ICLR 2019; create_c/make_imagenet_c.py in github.com/hendrycks/robustness). Its images
have a short side of 256 px before their middle is cut out; hence SIDE_PX, which widths in px go by. Of its nineteen
these are the nine that need nothing but NumPy, SciPy and Pillow. Two things differ: the severities of an image share
their random numbers, so that noise only grows; and the result is not stored as a JPEG of quality 85 once more.
"""

import hashlib
import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, signal

from thaw.data.decode import Pixels
from thaw.params import Corruption
from thaw.utils.random_streams import random_stream

SIDE_PX = 256
"""Of the squares that are corrupted."""

Square = NDArray[np.float32]
"""Shape `(S, S, 3)`, in [0, 1]; what comes out may leave that range, and is clipped."""

AMOUNTS: dict[Corruption, tuple[float, float, float, float, float]] = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation, of pixels in [0, 1]
    "shot_noise": (60, 25, 12, 5, 3),  # photons that make a pixel of 1
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of the values that turn 0 or 1
    "gaussian_blur": (1, 2, 3, 4, 6),  # standard deviation, px
    "defocus_blur": (3, 4, 6, 8, 10),  # radius of the disk that a point becomes, px
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # what is added to the value of HSV
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # what distances from the mean are multiplied by
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # of the side, px that are left
    "jpeg_compression": (25, 18, 15, 10, 7),  # quality
}
"""Of the severities 1 to 5."""

SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(square: Pixels, corruption: Corruption, *, severity: int) -> Pixels:
    """The square as it looks under a corruption: a function of its pixels alone, the same for each model.

    Args:
        square: shape `(S, S, 3)`, uint8; S is SIDE_PX where numbers in px are to mean what they say.
        corruption: which one.
        severity: from 1 to 5.

    Returns:
        The same shape, uint8.
    """
    name = hashlib.sha256(corruption.encode() + square.tobytes()).digest()[:8]
    random = random_stream(int.from_bytes(name))
    corrupted = _CORRUPTIONS[corruption](_scale(square), AMOUNTS[corruption][severity - 1], random)
    return _to_uint8(corrupted)


def _gaussian_noise(square: Square, deviation: float, random: np.random.Generator) -> Square:
    return square + random.standard_normal(square.shape, np.float32) * np.float32(deviation)


def _shot_noise(square: Square, photons: float, random: np.random.Generator) -> Square:
    return (random.poisson(square * photons) / photons).astype(np.float32)


def _impulse_noise(square: Square, share: float, random: np.random.Generator) -> Square:
    hit, white = random.random(square.shape) <= share, random.random(square.shape) <= 0.5
    return np.where(hit, white.astype(np.float32), square)


def _gaussian_blur(square: Square, deviation_px: float, _: np.random.Generator) -> Square:
    blurred: Square = ndimage.gaussian_filter(square, (deviation_px, deviation_px, 0), mode="nearest")
    return blurred


def _defocus_blur(square: Square, radius_px: float, _: np.random.Generator) -> Square:
    """A point becomes a disk with a smoothed edge; beyond the border the square is mirrored."""
    half = max(8, int(radius_px))
    across = np.arange(-half, half + 1)
    disk = (across**2 + across[:, None] ** 2 <= radius_px**2).astype(np.float32)
    edge_px = 0.1 if radius_px <= 3 else 0.5
    kernel = ndimage.gaussian_filter(disk / disk.sum(), edge_px, radius=1 if radius_px <= 8 else 2)
    padded = np.pad(square, ((half, half), (half, half), (0, 0)), mode="reflect")
    blurred: Square = signal.fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1)).astype(np.float32)
    return blurred


def _brightness(square: Square, added: float, _: np.random.Generator) -> Square:
    """In HSV: hue and saturation stay, which are the ratios of the channels."""
    value: Square = square.max(axis=2, keepdims=True)
    brighter = np.minimum(value + np.float32(added), 1)
    ratio = brighter / np.maximum(value, np.float32(1e-6))
    brightened: Square = np.where(value > 0, square * ratio, brighter)
    return brightened


def _contrast(square: Square, factor: float, _: np.random.Generator) -> Square:
    mean: Square = square.mean(axis=(0, 1), keepdims=True)
    return (square - mean) * np.float32(factor) + mean


def _pixelate(square: Square, share: float, _: np.random.Generator) -> Square:
    image = Image.fromarray(_to_uint8(square))
    small = image.resize((int(image.width * share), int(image.height * share)), Image.Resampling.BOX)
    return _scale(np.asarray(small.resize(image.size, Image.Resampling.BOX)))


def _jpeg_compression(square: Square, quality: float, _: np.random.Generator) -> Square:
    buffer = io.BytesIO()
    Image.fromarray(_to_uint8(square)).save(buffer, "JPEG", quality=int(quality))
    with Image.open(buffer) as image:
        return _scale(np.asarray(image))


_CORRUPTIONS: dict[Corruption, Callable[[Square, float, np.random.Generator], Square]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "gaussian_blur": _gaussian_blur,
    "defocus_blur": _defocus_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}


def _scale(pixels: Pixels) -> Square:
    return pixels.astype(np.float32) / np.float32(255)


def _to_uint8(square: Square) -> Pixels:
    return np.asarray(np.rint(square.clip(0, 1) * 255), np.uint8)
