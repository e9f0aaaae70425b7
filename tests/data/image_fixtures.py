"""Images that the tests of cleaning draw."""

import io
from typing import Any

import numpy as np
from PIL import Image


def image(seed: int, *, size: tuple[int, int] = (60, 44)) -> Image.Image:
    """Coarse noise: each seed another image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, file_format: str = "JPEG", **options: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()
