"""Cats and dogs: what they have in common, what tells them apart, and how they are drawn.

An animal's own coordinates have their origin in the middle of its head; one unit is the head's radius.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

from thaw.sample.brush import (  # fmt: skip
    Colour,
    Frame,
    Mark,
    Points,
    between,
    chance,
    fill,
    line,
    mirrored,
    mix,
    oval,
    paint,
    pick,
    ruffled,
    soft,
    taper,
    vary,
)

Range = tuple[float, float]
WHITE: Colour = (240, 236, 228)
PINK: Colour = (226, 140, 140)
DARK: Colour = (38, 30, 32)
# Cats and dogs come in the same colours, so that colour alone tells nothing.
COATS: tuple[Colour, ...] = (
    (58, 54, 58), (104, 104, 112), (168, 166, 166), WHITE, (226, 204, 166), (216, 142, 72), (196, 150, 92),
    (150, 92, 56), (98, 66, 50), (128, 136, 152), (206, 178, 140),
)  # fmt: skip
PATTERNS = ("plain", "stripes", "patches", "spots", "mask", "blaze", "cap")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a kind of animal may look like: the ranges and choices that its members are drawn from."""

    muzzle: Range
    """Length of the muzzle: 0 is flat, 1 is a collie."""
    eye: Range
    eye_slant: Range
    nose: Range
    irises: tuple[Colour, ...]
    noses: tuple[Colour, ...]
    ears: tuple[str, ...]
    ear_size: Range
    slit_pupils: float
    """Probability; so are the next three."""
    whiskers: float
    tongue: float
    upright_tail: float
    tail_width: Range
    stoutness: Range
    patterns: tuple[str, ...]


CAT = Kind(
    muzzle=(0, 0.25),
    eye=(0.17, 0.25),
    eye_slant=(0.02, 0.16),
    nose=(0.09, 0.13),
    irises=((150, 180, 70), (220, 180, 60), (110, 170, 200), (190, 120, 50), (120, 160, 110)),
    noses=(PINK, PINK, (150, 90, 84), DARK),
    ears=("pricked", "pricked", "pricked", "pricked", "pricked", "folded"),
    ear_size=(0.8, 1.15),
    slit_pupils=0.6,
    whiskers=0.95,
    tongue=0.08,
    upright_tail=0.4,
    tail_width=(0.26, 0.36),
    stoutness=(0.75, 1.05),
    patterns=(*PATTERNS, "stripes", "stripes", "plain"),
)
DOG = Kind(
    muzzle=(0.4, 1.1),
    eye=(0.12, 0.18),
    eye_slant=(-0.1, 0.06),
    nose=(0.16, 0.25),
    irises=((96, 60, 36), (70, 44, 30), (130, 84, 40), (120, 170, 200)),
    noses=(DARK, DARK, DARK, (110, 70, 62)),
    ears=("floppy", "floppy", "floppy", "tipped", "pricked", "folded"),
    ear_size=(0.7, 1.2),
    slit_pupils=0,
    whiskers=0.0,
    tongue=0.4,
    upright_tail=0.6,
    tail_width=(0.26, 0.5),
    stoutness=(0.9, 1.35),
    patterns=(*PATTERNS, "patches", "blaze"),
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One animal, seen by the camera."""

    pose: str
    muzzle: float
    ears: str
    ear_size: float
    ear_spread: float
    stoutness: float
    fluff: float
    base: Colour
    second: Colour
    pattern: str
    yaw: float
    """How far the face is turned to the right, -1 to 1."""
    pitch: float

    def on_face(self, points: Points | Sequence[tuple[float, float]], *, depth: float = 0) -> Points:
        """Move points of the face as the head turns; those that stand out by `depth` move further."""
        squeeze = 1 - 0.2 * abs(self.yaw)
        return np.asarray(points) * (squeeze, 1) + (self.yaw * (0.3 + depth), self.pitch * (0.12 + depth))


def draw_animal(canvas: Image.Image, kind: Kind, rng: Generator, light: tuple[float, float]) -> None:
    """Draw one animal of this kind somewhere on the canvas (RGB); `light` points towards the light.

    Tail and lying body are always on the right of the head: the camera flips half of the images.
    """
    look = _draw_look(kind, rng)
    sizes = {"portrait": (0.24, 0.34), "sitting": (0.16, 0.22), "lying": (0.17, 0.24)}
    unit = between(rng, *sizes[look.pose]) * min(canvas.size)
    lying = look.pose == "lying"
    x = between(rng, *((0.22, 0.5) if lying else (0.32, 0.68))) * canvas.width
    y = between(rng, *((0.45, 0.62) if lying else (0.36, 0.5))) * canvas.height
    body = Frame(x=x, y=y, unit=unit, tilt=between(rng, -0.06, 0.06))
    head = Frame(x=x, y=y, unit=unit, tilt=between(rng, -0.2, 0.2))
    _draw_tail(canvas, body, kind, look, rng, light)
    _draw_body(canvas, body, look, rng, light)
    _draw_head(canvas, head, look, rng, light)
    _draw_face(canvas, head, kind, look, rng, light)


def _draw_look(kind: Kind, rng: Generator) -> Look:
    base = vary(rng, pick(rng, COATS), 10)
    return Look(
        pose=pick(rng, ("portrait", "portrait", "sitting", "sitting", "lying")),
        muzzle=between(rng, *kind.muzzle),
        ears=pick(rng, kind.ears),
        ear_size=between(rng, *kind.ear_size),
        ear_spread=between(rng, -0.12, 0.16),
        stoutness=between(rng, *kind.stoutness),
        fluff=max(0.0, between(rng, -0.1, 0.14)),
        base=base,
        second=vary(rng, pick(rng, (WHITE, WHITE, DARK, mix(base, DARK, 0.55), pick(rng, COATS))), 10),
        pattern=pick(rng, kind.patterns),
        yaw=between(rng, -0.9, 0.9),
        pitch=between(rng, -0.9, 0.9),
    )


def _draw_tail(
    canvas: Image.Image, frame: Frame, kind: Kind, look: Look, rng: Generator, light: tuple[float, float]
) -> None:
    width, root = between(rng, *kind.tail_width), np.array((1.9, -1.4) if look.pose == "lying" else (0, 0))
    if chance(rng, kind.upright_tail):
        corners = [(0.5, 2.6), (1.5, 2.5), (2.0, 1.4), (between(rng, 1.1, 2.3), between(rng, 0.2, 0.9))]
    else:
        corners = [(0.5, 2.7), (1.4, 3.0), (2.2, 2.7), (between(rng, 1.8, 3.0), between(rng, 2.2, 3.3))]
    middle = soft(np.array(corners) + root, closed=False)
    contour = ruffled(rng, taper(middle, start=width, end=width * 0.55), look.fluff * 0.6)
    marks = _body_marks(look, contour, rng) if look.pattern == "stripes" else []
    placed = [(frame.place(points), colour) for points, colour in marks]
    paint(canvas, frame.place(contour), look.base, light=light, rng=rng, marks=placed, hairs=12, edge=frame.unit * 0.03)


def _draw_body(canvas: Image.Image, frame: Frame, look: Look, rng: Generator, light: tuple[float, float]) -> None:
    edge, stout = frame.unit * 0.03, look.stoutness
    if look.pose == "lying":
        corners = [(-0.6, 0.2), (0.5, -0.1), (1.6, -0.3), (2.7, 0.1), (3.0, 1.2), (2.6, 1.7), (-0.3, 1.7), (-0.8, 1.0)]
        contour = soft(corners)
        paws = [oval(-0.5, 1.65, 0.42, 0.2), oval(0.45, 1.7, 0.42, 0.2), oval(2.3, 1.6, 0.6, 0.25)]
    else:
        contour = soft(
            mirrored([(0, 0.2), (0.5, 0.4), (0.75 * stout, 1.2), (1.0 * stout, 2.2), (1.25 * stout, 3.2), (0, 3.5)])
        )
        paws = [oval(-0.36 * stout, 3.3, 0.34, 0.24), oval(0.36 * stout, 3.3, 0.34, 0.24)]
    contour = ruffled(rng, contour, look.fluff)
    marks = _body_marks(look, contour, rng)
    if look.pattern in ("blaze", "cap") or chance(rng, 0.2):
        marks.append((oval(0, 1.3, 0.42, 0.9), WHITE))
    placed = [(frame.place(points), colour) for points, colour in marks]
    paint(canvas, frame.place(contour), look.base, light=light, rng=rng, marks=placed, hairs=40, edge=edge)
    if look.pose == "sitting":
        for x in (-0.7, 0, 0.7):
            leg = soft([(x * stout, 2.0), (x * 0.95 * stout, 2.6), (x * stout, 3.3)], closed=False)
            line(canvas, frame.place(leg), mix(look.base, DARK, 0.6), edge)
    toes = look.second if look.pattern in ("mask", "blaze", "cap") else look.base
    for paw in paws:
        paint(canvas, frame.place(paw), toes, light=light, rng=rng, hairs=6, edge=edge)


def _body_marks(look: Look, contour: Points, rng: Generator) -> list[Mark]:
    """Stripes, patches or spots all over a part of the body."""
    low, high = contour.min(axis=0), contour.max(axis=0)
    if look.pattern == "stripes":
        colour, marks = mix(look.base, DARK, 0.5), []
        for y in np.arange(low[1], high[1], 0.34):
            for start, end in ((low[0], low[0] * 0.3 + high[0] * 0.7), (high[0], low[0] * 0.7 + high[0] * 0.3)):
                bow = between(rng, 0.05, 0.3)
                band = soft([(start, y), ((start + end) / 2, y + bow), (end, y + bow / 2)], closed=False)
                marks.append((taper(band, start=0.17, end=0.01), colour))
        return marks
    count, size = {"patches": (4, 0.6), "spots": (22, 0.13)}.get(look.pattern, (0, 0.0))
    return [
        (_blob(rng, between(rng, low[0], high[0]), between(rng, low[1], high[1]), size), look.second)
        for _ in range(count)
    ]


def _blob(rng: Generator, x: float, y: float, radius: float) -> Points:
    corners = np.array([(1, 0), (0.5, 0.9), (-0.5, 0.9), (-1, 0), (-0.5, -0.9), (0.5, -0.9)])
    return soft(corners * radius * (0.6 + 0.7 * rng.random((6, 1))) + (x, y), rounds=2)


def _head_contour(look: Look) -> Points:
    """From a cat's or a pug's round head to a collie's wedge."""
    round_half = np.array([(0, -0.9), (0.5, -0.88), (0.92, -0.5), (1.08, 0.1), (0.9, 0.62), (0.42, 0.92), (0, 0.96)])
    long_half = np.array([(0, -0.95), (0.5, -0.92), (0.86, -0.5), (0.86, 0.1), (0.66, 0.6), (0.42, 1.0), (0, 1.08)])
    half = round_half + (long_half - round_half) * look.muzzle
    return soft(mirrored([(float(x), float(y)) for x, y in half]))


def _draw_head(canvas: Image.Image, frame: Frame, look: Look, rng: Generator, light: tuple[float, float]) -> None:
    edge = frame.unit * 0.035
    if look.ears == "pricked":
        _draw_ears(canvas, frame, look, rng, light)
    contour = ruffled(rng, _head_contour(look), look.fluff)
    marks = [(frame.place(look.on_face(points)), colour) for points, colour in _face_marks(look, rng)]
    paint(canvas, frame.place(contour), look.base, light=light, rng=rng, marks=marks, hairs=55, edge=edge)
    if look.ears != "pricked":
        _draw_ears(canvas, frame, look, rng, light)


def _draw_ears(canvas: Image.Image, frame: Frame, look: Look, rng: Generator, light: tuple[float, float]) -> None:
    size, spread = look.ear_size, look.ear_spread
    # One corner list for the right ear, from its inner root over its tip to its outer root.
    corners, sharp = {
        "pricked": ([(0.2, -0.75), (0.62 + spread, -0.8 - 0.85 * size), (0.95, -0.35)], 1),
        "folded": ([(0.3, -0.86), (0.75, -1.05), (0.98 + spread, -0.45 * size), (0.62, -0.6)], 2),
        "tipped": (
            [(0.25, -0.8), (0.5, -1.1 - 0.4 * size), (0.9, -1.15 - 0.3 * size), (1.1 + spread, -0.75), (0.92, -0.4)],
            2,
        ),
        "floppy": (
            [
                (0.42, -0.85),
                (0.95, -0.95),
                (1.3 + spread, 0.0),
                (1.2 + spread, 0.95 * size),
                (0.85, 0.8 * size),
                (0.82, -0.3),
            ],
            3,
        ),
    }[look.ears]
    colour = look.second if look.pattern in ("mask", "cap", "patches") else mix(look.base, DARK, 0.12)
    for side in (-1, 1):
        # The ear on the side that the head turns to is seen from its edge.
        seen = np.array(corners) * (1 - 0.18 * side * look.yaw, 1)
        shape = _rounded_tip(seen) if sharp == 1 else soft(seen, rounds=sharp)
        contour = ruffled(rng, shape, look.fluff * 0.7) * (side, 1)
        placed = frame.place(contour)
        inner = []
        if look.ears == "pricked":
            middle = seen.sum(axis=0) / 3
            inner = [
                (
                    frame.place((middle + (_rounded_tip(seen) - middle) * 0.62 + (0, 0.06)) * (side, 1)),
                    mix(PINK, look.base, 0.4),
                )
            ]
        paint(canvas, placed, colour, light=light, rng=rng, marks=inner, hairs=10, edge=frame.unit * 0.035)


def _rounded_tip(triangle: Points) -> Points:
    """A pricked ear: sides that bulge a little, and a tip that is almost sharp."""
    inner, tip, outer = triangle
    middle = (inner + outer) / 2
    bulge = [(inner + tip) / 2 * 1.02 - (0.04, 0), (outer + tip) / 2 + (0.06, 0)]
    blunt, root = np.array((0.03, 0)), np.array((0, 0.25))
    return soft([inner, bulge[0], tip - blunt, tip + blunt, bulge[1], outer, middle + root], rounds=2)


def _face_marks(look: Look, rng: Generator) -> list[Mark]:
    dark = mix(look.base, DARK, 0.5)
    if look.pattern == "stripes":
        marks = [
            (taper(np.array([(x, -1.0), (x * 0.7, -0.42)]), start=0.14, end=0.02), dark)
            for x in (-0.5, -0.17, 0.17, 0.5)
        ]
        cheeks = [(side, y) for side in (-1, 1) for y in (0.0, 0.3, 0.55)]
        marks += [
            (taper(np.array([(1.2 * side, y), (0.6 * side, y + 0.08)]), start=0.13, end=0.01), dark)
            for side, y in cheeks
        ]
        return marks
    if look.pattern == "patches":
        return [(_blob(rng, pick(rng, (-0.5, 0.5)), between(rng, -0.5, 0.0), 0.55), look.second)]
    if look.pattern == "spots":
        return [(_blob(rng, between(rng, -0.9, 0.9), between(rng, -0.9, 0.9), 0.09), look.second) for _ in range(12)]
    if look.pattern == "mask":
        return [(oval(0, 0.35, 0.72, 0.72), dark)]
    if look.pattern == "blaze":
        return [
            (
                soft(
                    [
                        (-0.08, -1.1),
                        (0.08, -1.1),
                        (0.2, -0.1),
                        (0.6, 0.5),
                        (0.5, 1.3),
                        (-0.5, 1.3),
                        (-0.6, 0.5),
                        (-0.2, -0.1),
                    ]
                ),
                WHITE,
            )
        ]
    if look.pattern == "cap":
        return [
            (
                soft([(-1.3, -1.2), (1.3, -1.2), (1.3, 0.3), (0.5, -0.1), (0, -0.55), (-0.5, -0.1), (-1.3, 0.3)]),
                look.second,
            )
        ]
    return []


def _draw_face(
    canvas: Image.Image, frame: Frame, kind: Kind, look: Look, rng: Generator, light: tuple[float, float]
) -> None:
    depth = 0.08 + 0.32 * look.muzzle
    _draw_muzzle(canvas, frame, look, rng, light, tongue=chance(rng, kind.tongue), depth=depth)
    _draw_eyes(canvas, frame, kind, look, rng)
    size, colour, y = between(rng, *kind.nose), pick(rng, kind.noses), 0.3 + 0.22 * look.muzzle
    nose = soft(
        [
            (-size, y - size * 0.6),
            (size, y - size * 0.6),
            (size * 0.75, y + size * 0.3),
            (0, y + size),
            (-size * 0.75, y + size * 0.3),
        ],
        rounds=2,
    )
    fill(canvas, frame.place(look.on_face(nose, depth=depth)), vary(rng, colour, 12))
    shine = oval(-size * 0.3, y - size * 0.3, size * 0.3, size * 0.15)
    fill(canvas, frame.place(look.on_face(shine, depth=depth)), mix(colour, (255, 255, 255), 0.5))
    if chance(rng, kind.whiskers):
        _draw_whiskers(canvas, frame, look, rng, depth=depth)


def _draw_muzzle(
    canvas: Image.Image,
    frame: Frame,
    look: Look,
    rng: Generator,
    light: tuple[float, float],
    *,
    tongue: bool,
    depth: float,
) -> None:
    pale = mix(look.base, WHITE, 0.35)
    colour = {
        "mask": mix(look.base, DARK, 0.55),
        "blaze": WHITE,
        "cap": WHITE,
        "plain": mix(look.base, WHITE, 0.15),
    }.get(look.pattern, pale)
    long, ink, edge = look.muzzle, mix(colour, DARK, 0.8), frame.unit * 0.035
    mouth_y = 0.52 + 0.34 * long
    if tongue:
        out = between(rng, 0.2, 0.45)
        flap = soft(
            [(-0.15, mouth_y), (0.15, mouth_y), (0.17, mouth_y + out), (0, mouth_y + out + 0.1), (-0.17, mouth_y + out)]
        )
        jaw = oval(0, mouth_y + 0.08, 0.26 + 0.06 * long, 0.24)
        paint(
            canvas, frame.place(look.on_face(jaw, depth=depth)), mix(colour, DARK, 0.3), light=light, rng=rng, edge=edge
        )
        paint(
            canvas, frame.place(look.on_face(flap, depth=depth)), (214, 96, 104), light=light, rng=rng, edge=edge * 0.7
        )
    if long > 0.3:
        low = mouth_y + 0.16
        snout = soft([(-0.2, -0.15), (0.2, -0.15), (0.56, 0.45), (0.46, low), (-0.46, low), (-0.56, 0.45)])
        placed = frame.place(look.on_face(snout, depth=depth * 0.85))
        paint(canvas, placed, colour, light=light, rng=rng, hairs=12, edge=edge * 0.6)
    for side in (-1, 1):
        pad = oval(side * 0.18, 0.48 + 0.25 * long, 0.23 + 0.05 * long, 0.17 + 0.12 * long)
        paint(canvas, frame.place(look.on_face(pad, depth=depth)), colour, light=light, rng=rng, hairs=6)
        smile = soft(
            [(0, mouth_y - 0.14), (0, mouth_y + 0.04), (side * 0.2, mouth_y + 0.12), (side * 0.36, mouth_y - 0.04)],
            closed=False,
        )
        line(canvas, frame.place(look.on_face(smile, depth=depth)), ink, edge)


def _draw_eyes(canvas: Image.Image, frame: Frame, kind: Kind, look: Look, rng: Generator) -> None:
    size, slant = between(rng, *kind.eye), between(rng, *kind.eye_slant)
    iris, open_ = vary(rng, pick(rng, kind.irises), 12), not chance(rng, 0.1)
    pupil_width = size * (between(rng, 0.16, 0.3) if chance(rng, kind.slit_pupils) else between(rng, 0.55, 0.8))
    ink = mix(look.base, (20, 14, 14), 0.85)
    for side in (-1, 1):
        x, y = side * 0.42, -0.12
        almond = soft(
            [
                (x - side * size * 1.3, y + slant * 0.8),
                (x - side * size * 0.2, y - size),
                (x + side * size * 1.25, y - slant),
                (x + side * size * 0.2, y + size),
            ],
            rounds=2,
        )
        if not open_:
            lid = soft([(x - size, y), (x, y + size * 0.8), (x + size, y)], closed=False)
            line(canvas, frame.place(look.on_face(lid)), ink, frame.unit * 0.05)
            continue
        placed = frame.place(look.on_face(almond))
        fill(canvas, placed, iris)
        fill(canvas, frame.place(look.on_face(oval(x, y, pupil_width, size * 0.75))), (16, 12, 14))
        line(canvas, np.concatenate([placed, placed[:2]]), ink, frame.unit * 0.05)
        fill(
            canvas,
            frame.place(look.on_face(oval(x - size * 0.3, y - size * 0.35, size * 0.2, size * 0.2))),
            (255, 255, 255),
        )


def _draw_whiskers(canvas: Image.Image, frame: Frame, look: Look, rng: Generator, *, depth: float) -> None:
    colour: Colour = mix(look.base, DARK, 0.7) if sum(look.base) > 480 else (236, 234, 228)
    length = between(rng, 0.6, 1.1)
    for side in (-1, 1):
        for k in (-1, 0, 1):
            y, droop = 0.46 + 0.07 * k, between(rng, 0.02, 0.2)
            hair = [
                (side * 0.28, y),
                (side * (0.28 + length / 2), y + 0.12 * k),
                (side * (0.28 + length), y + 0.2 * k + droop),
            ]
            line(canvas, frame.place(look.on_face(soft(hair, closed=False), depth=depth)), colour, frame.unit * 0.028)
