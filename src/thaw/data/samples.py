"""Grey samples of more than 8 bits -> 8 bits: what is black and what is white.

By what the format says where it does: 16 bits of a PNG or PGM reach from 0 to 65,535, a TIFF has tags for its smallest
and largest value and for whether 0 is white (TIFF 6.0, sections 3 and 8, and 19 for the tags of numbers with a sign).
Files that say nothing, or hold less than a sixteenth of what they could (12 bits of a camera in a file of 16), are
scaled by what is found in them: else they would be wholly black.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BITS = (8, 10, 12, 16, 24)
"""How many bits cameras and scanners measure."""
_WHITE_IS_ZERO = 0
_SIGNED = 2
_PHOTOMETRIC, _MIN_SAMPLE, _MAX_SAMPLE, _SAMPLE_FORMAT, _S_MIN_SAMPLE, _S_MAX_SAMPLE = 262, 280, 281, 339, 340, 341
"""Tags of a TIFF."""


def scale_samples(image: Image.Image) -> tuple[NDArray[np.uint8], str]:
    """The greys of a loaded image of Pillow's modes I and F, which hold numbers of more than 8 bits.

    Numbers that the image calls transparent become white.

    Returns:
        Shape (H, W), and a note; empty if the format says what is black and white.
    """
    tags = getattr(image, "tag_v2", {})
    samples = np.asarray(image).astype(np.float64)  # (H, W)
    if image.mode == "I" and image.format == "TIFF" and tags.get(_SAMPLE_FORMAT, (1,))[0] != _SIGNED:
        # Pillow holds them as numbers with a sign.
        samples %= 2**32
    known = np.isfinite(samples)
    lowest, highest = (float(samples[known].min()), float(samples[known].max())) if known.any() else (0.0, 0.0)
    black, white, note = _find_range(image, tags, lowest, highest)
    samples[~known] = black
    grey = np.clip((samples - black) / (white - black), 0, 1) * 255
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return np.rint(grey).astype(np.uint8), note


def _find_range(image: Image.Image, tags: dict[int, object], lowest: float, highest: float) -> tuple[float, float, str]:
    """What is black, what is white, and a note."""
    told = _read_range(tags, lowest, highest)
    if told is not None:
        return *told, ""
    bits16 = image.mode.startswith("I;16") or image.format != "TIFF"
    if image.mode == "F":
        if lowest >= 0 and highest <= 1:
            return 0.0, 1.0, ""
    elif bits16 and (highest >= 2**12 or highest == lowest):
        return 0.0, 65535.0, ""
    elif lowest >= 0 and highest < 2 ** _BITS[-1]:
        bits = next(bits for bits in _BITS if highest < 2**bits)
        return 0.0, 2.0**bits - 1, f"samples up to {highest:,.0f}, read as {bits} bits"
    if lowest == highest:
        # One value: there is nothing to scale by.
        lowest, highest = min(lowest, 0.0), max(highest, lowest + 1)
    return lowest, highest, f"samples from {lowest:,.6g} to {highest:,.6g}, read as black to white"


def _read_range(tags: dict[int, object], lowest: float, highest: float) -> tuple[float, float] | None:
    """The range that a TIFF tells, if its samples lie in it."""
    for minimum, maximum in ((_S_MIN_SAMPLE, _S_MAX_SAMPLE), (_MIN_SAMPLE, _MAX_SAMPLE)):
        black, white = _first_number(tags.get(minimum, 0)), _first_number(tags.get(maximum))
        if black is not None and white is not None and black <= lowest and highest <= white and black < white:
            return black, white
    return None


def _first_number(value: object) -> float | None:
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, int | float) else None
