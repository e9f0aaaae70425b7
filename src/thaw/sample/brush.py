"""Soft shapes, shaded fur and lines on a Pillow canvas.

Everything that decides where a pixel goes is plain arithmetic on doubles, rounded to whole pixels: no sine, no
exponential, no matrix product; images are blended with sums of powers of 1/2. So the drawings do not depend on a maths
library or on how a processor rounds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]
"""Corners or a contour, shape (N, 2): x to the right, y down."""
Colour = tuple[int, int, int]
Option = TypeVar("Option")
Mark = tuple[Points, Colour]
"""A contour and what it is filled with, painted onto a larger shape and cut off at its edge."""
SHADE = 3 / 8
"""How much darker the side is that the light does not reach."""


def between(rng: Generator, low: float, high: float) -> float:
    """A number drawn evenly from `low` to `high`."""
    return low + (high - low) * float(rng.random())


def chance(rng: Generator, probability: float) -> bool:
    """True with this probability."""
    return float(rng.random()) < probability


def pick(rng: Generator, options: Sequence[Option]) -> Option:
    """One of the options; name one twice to have it twice as often."""
    return options[int(rng.random() * len(options))]


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with a share (0 to 1) of `other`."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def vary(rng: Generator, colour: Colour, by: int) -> Colour:
    """The colour with each channel moved by at most `by`."""
    red, green, blue = (max(0, min(255, int(value + between(rng, -by, by)))) for value in colour)
    return red, green, blue


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where a thing's own coordinates lie on the canvas."""

    x: float
    y: float
    unit: float
    """Pixels to one unit of the thing's own coordinates."""
    tilt: float = 0
    """Tangent of half the angle by which the thing is turned clockwise: 0.1 is 11 degrees."""

    def place(self, points: ArrayLike) -> Points:
        """The thing's own coordinates, shape (N, 2), as canvas pixels, shape (N, 2)."""
        x, y = np.asarray(points, dtype=np.float64).T * self.unit
        norm = 1 + self.tilt * self.tilt
        cosine, sine = (1 - self.tilt * self.tilt) / norm, 2 * self.tilt / norm
        return np.stack([self.x + cosine * x - sine * y, self.y + sine * x + cosine * y], axis=1)


def soft(corners: ArrayLike, *, rounds: int = 3, closed: bool = True) -> Points:
    """Cut the corners of a polygon or of an open line off (Chaikin 1974), (N, 2) -> (N * 2 ** rounds, 2)."""
    points = np.asarray(corners, dtype=np.float64)
    for _ in range(rounds):
        loop = np.concatenate([points, points[:1]]) if closed else points
        cut = np.empty((2 * len(loop) - 2, 2))
        cut[0::2] = 0.75 * loop[:-1] + 0.25 * loop[1:]
        cut[1::2] = 0.25 * loop[:-1] + 0.75 * loop[1:]
        points = cut if closed else np.concatenate([points[:1], cut, points[-1:]])
    return points


# Cutting an octagon's corners off gives a circle, to the eye.
CIRCLE = soft(
    [(1, 0.41), (0.41, 1), (-0.41, 1), (-1, 0.41), (-1, -0.41), (-0.41, -1), (0.41, -1), (1, -0.41)], rounds=2
)


def oval(x: float, y: float, radius_x: float, radius_y: float) -> Points:
    """An ellipse's contour."""
    return CIRCLE * (radius_x, radius_y) + (x, y)


def mirrored(half: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Close the right half of a symmetric polygon, listed from top to bottom, with its left half."""
    return [*half, *((-x, y) for x, y in reversed(half) if x != 0)]


def ruffled(rng: Generator, contour: Points, amount: float) -> Points:
    """Pull every other point of a contour outwards by up to `amount` of its distance from the middle: long hair."""
    pull = 1 + amount * rng.random((len(contour), 1)) * (np.arange(len(contour)) % 2)[:, None]
    middle = contour.sum(axis=0) / len(contour)
    pulled: Points = middle + (contour - middle) * pull
    return pulled


def flat(points: Points) -> list[int]:
    """Contour as Pillow wants it: whole pixels, x and y in turn."""
    corners: list[int] = np.floor(points + 0.5).astype(np.int64).ravel().tolist()
    return corners


def fill(canvas: Image.Image, contour: Points, colour: Colour) -> None:
    """Fill a contour with one colour."""
    ImageDraw.Draw(canvas).polygon(flat(contour), fill=colour)


def line(canvas: Image.Image, points: Points, colour: Colour, width: float) -> None:
    """Draw an open line of this width in pixels."""
    # Joints are rounded by discs, which are slow and which nobody sees on a thin line.
    joint = "curve" if width > 4 else None
    ImageDraw.Draw(canvas).line(flat(points), fill=colour, width=max(1, round(width)), joint=joint)


def taper(points: Points, *, start: float, end: float) -> Points:
    """The contour around an open line that is `start` wide at its beginning and `end` wide at its end."""
    along = np.gradient(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across /= np.sqrt((across * across).sum(axis=1, keepdims=True)) + 1e-9
    half = np.linspace(start / 2, end / 2, len(points))[:, None]
    return np.concatenate([points + across * half, (points - across * half)[::-1]])


def paint(
    canvas: Image.Image,
    contour: Points,
    colour: Colour,
    *,
    light: tuple[float, float],
    rng: Generator,
    marks: Iterable[Mark] = (),
    hairs: int = 0,
    edge: float = 0,
) -> None:
    """Paint a rounded, furry thing: its colour, its marks, its hairs, its shaded side, its edge.

    Args:
        canvas: RGB, painted on.
        contour: in canvas pixels.
        colour: of what no mark covers.
        light: towards the light; x and y from -1 to 1.
        rng: for the hairs.
        marks: in canvas pixels, from the lowest to the uppermost.
        hairs: how many short strokes to scatter.
        edge: width of the summary in pixels; 0 for none.
    """
    low = np.maximum(np.floor(contour.min(axis=0)), 0)
    size = np.minimum(np.ceil(contour.max(axis=0)) + 1, canvas.size) - low
    width, height = int(size[0]), int(size[1])
    if width < 1 or height < 1:
        return  # off the canvas
    layer = Image.new("RGB", (width, height), colour)
    for points, mark_colour in marks:
        fill(layer, points - low, mark_colour)
    _scatter_hairs(layer, contour - low, rng, hairs)
    mask = _mask((width, height), contour - low)
    extent = float(np.max(contour.max(axis=0) - contour.min(axis=0)))
    lit = _mask((width, height), contour - low + np.array(light) * 0.13 * extent)
    lit = lit.filter(ImageFilter.BoxBlur(int(extent * 0.05) + 1))
    shaded = Image.blend(layer, Image.new("RGB", layer.size), SHADE)
    shaded.paste(layer, mask=lit)
    canvas.paste(shaded, (int(low[0]), int(low[1])), mask)
    if edge:
        line(canvas, np.concatenate([contour, contour[:2]]), mix(colour, (30, 22, 20), 0.72), edge)


def _mask(size: tuple[int, int], contour: Points) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(flat(contour), fill=255)
    return mask


def _scatter_hairs(layer: Image.Image, contour: Points, rng: Generator, count: int) -> None:
    """Strokes that point away from the middle, each a little lighter or darker than what it lies on."""
    if count == 0:
        return
    middle = contour.sum(axis=0) / len(contour)
    rays = contour[(rng.random(count) * len(contour)).astype(np.int64)] - middle
    roots = middle + rays * np.sqrt(rng.random((count, 1)))
    tips = roots + rays * 0.12 + (rng.random((count, 2)) - 0.5) * 6
    strokes: list[list[int]] = np.concatenate([roots, tips], axis=1).astype(np.int64).tolist()
    changes: list[int] = ((rng.random(count) - 0.45) * 60).astype(np.int64).tolist()
    pen = ImageDraw.Draw(layer)
    pixels: Any = layer.load()
    for stroke, change in zip(strokes, changes, strict=True):
        x, y = stroke[:2]
        if 0 <= x < layer.width and 0 <= y < layer.height:
            red, green, blue = pixels[x, y]
            pen.line(stroke, fill=(red + change, green + change, blue + change), width=2)
