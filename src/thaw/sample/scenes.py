"""What is behind and before the animal, and the camera. Nothing here knows whether it is a cat or a dog."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from thaw.sample.brush import Colour, between, chance, fill, line, mix, oval, paint, pick, soft, taper, vary

WALLS: tuple[Colour, ...] = (
    (214, 196, 168), (168, 190, 196), (196, 168, 160), (150, 160, 130), (120, 128, 150), (226, 220, 208), (96, 88, 92),
)  # fmt: skip
FLOORS: tuple[Colour, ...] = ((150, 108, 70), (186, 150, 108), (110, 84, 66), (130, 130, 134), (176, 120, 110))
GREENS: tuple[Colour, ...] = ((96, 140, 60), (70, 110, 56), (134, 150, 70), (150, 160, 100))
SKIES: tuple[Colour, ...] = ((150, 190, 224), (204, 216, 224), (236, 196, 160), (120, 140, 170))
TOYS: tuple[Colour, ...] = (
    (200, 50, 50),
    (50, 110, 190),
    (230, 180, 50),
    (90, 160, 80),
    (220, 120, 170),
    (240, 240, 236),
)
GREY: Colour = (128, 128, 128)
# Shares of noise in an image.
GRAINS = (1 / 64, 1 / 32, 1 / 16, 1 / 8)
BOXES: tuple[Colour, ...] = ((186, 146, 100), (160, 120, 80), (120, 60, 60), (70, 100, 120), (200, 200, 196))


def draw_background(size: tuple[int, int], rng: Generator, light: tuple[float, float]) -> Image.Image:
    """A place, RGB, of `size` (width, height); `light` points towards the light."""
    draw = pick(rng, (_draw_room, _draw_room, _draw_meadow, _draw_meadow, _draw_tiles, _draw_cloth, _draw_blotches))
    # Drawn at the size of the image, since it needs no smooth edges: four times faster.
    scene = draw((size[0] // 2, size[1] // 2), rng)
    for _ in range(int(between(rng, 0, 2.6))):
        _draw_toy(scene, rng, light)
    if chance(rng, 0.4):
        scene = scene.filter(ImageFilter.BoxBlur(int(between(rng, 1, 5))))
    return scene.resize(size, Image.Resampling.NEAREST)


def _gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


def _draw_room(size: tuple[int, int], rng: Generator) -> Image.Image:
    width, height = size
    wall, floor = vary(rng, pick(rng, WALLS), 18), vary(rng, pick(rng, FLOORS), 14)
    scene = _gradient(size, mix(wall, (255, 255, 255), 0.15), mix(wall, (0, 0, 0), 0.2))
    pen = ImageDraw.Draw(scene)
    if chance(rng, 0.5):
        step = int(between(rng, 10, 26))
        for left in range(0, width, 2 * step):
            pen.rectangle([left, 0, left + step, height], fill=mix(wall, pick(rng, WALLS), 0.12))
    for _ in range(int(between(rng, 0, 3))):
        x, y, side = between(rng, -0.1, 0.9) * width, between(rng, -0.1, 0.4) * height, between(rng, 0.15, 0.4) * width
        pen.rectangle([x, y, x + side, y + side * 0.8], fill=pick(rng, SKIES + TOYS), outline=(90, 70, 56), width=3)
    skirting = int(between(rng, 0.5, 0.95) * height)
    pen.rectangle([0, skirting, width, height], fill=floor)
    pen.rectangle([0, skirting - 5, width, skirting], fill=mix(wall, (255, 255, 255), 0.5))
    for plank in range(skirting + 8, height, 14):
        pen.line([0, plank, width, plank], fill=mix(floor, (0, 0, 0), 0.2), width=1)
    return scene


def _draw_meadow(size: tuple[int, int], rng: Generator) -> Image.Image:
    width, height = size
    sky, green = vary(rng, pick(rng, SKIES), 14), vary(rng, pick(rng, GREENS), 18)
    scene = _gradient(size, sky, mix(sky, (255, 250, 235), 0.6))
    horizon = between(rng, -0.1, 0.7) * height
    hills = [(-0.2 * width, 1.2 * height), *((k * width / 4, horizon + between(rng, -20, 20)) for k in range(-1, 6))]
    fill(scene, soft([*hills, (1.2 * width, 1.2 * height)]), green)
    _draw_blades(scene, rng, base=(horizon + 20, height + 20), length=(8, 22), colour=green, count=100, width=2)
    return scene


def _draw_tiles(size: tuple[int, int], rng: Generator) -> Image.Image:
    one = vary(rng, pick(rng, WALLS + FLOORS), 20)
    other = mix(one, pick(rng, WALLS + TOYS), between(rng, 0.1, 0.6))
    scene, step = Image.new("RGB", size, one), int(between(rng, 12, 40))
    pen, slant = ImageDraw.Draw(scene), between(rng, -0.6, 0.6)
    for row in range(-1, size[1] // step + 1):
        for column in range(-size[0] // step, 2 * size[0] // step, 2):
            x, y = (column + row % 2 + slant * row) * step, row * step
            pen.polygon([x, y, x + step, y, x + (1 + slant) * step, y + step, x + slant * step, y + step], fill=other)
    return scene


def _draw_cloth(size: tuple[int, int], rng: Generator) -> Image.Image:
    """A blanket in folds."""
    colour = vary(rng, pick(rng, TOYS + WALLS), 25)
    scene = _gradient(size, mix(colour, (255, 255, 255), 0.2), mix(colour, (0, 0, 0), 0.3))
    for _ in range(9):
        x, sway = between(rng, -0.3, 1.2) * size[0], between(rng, -60, 60)
        fold = soft([(x, -9), (x + sway, size[1] * 0.5), (x - sway * 0.3, size[1] + 9.0)], closed=False)
        shade: Colour = pick(rng, ((0, 0, 0), (255, 255, 255)))
        fill(scene, taper(fold, start=between(rng, 3, 22), end=between(rng, 3, 22)), mix(colour, shade, 0.22))
    return scene


def _draw_blotches(size: tuple[int, int], rng: Generator) -> Image.Image:
    """Leaves, gravel, a crowd: something without a form."""
    cells = int(between(rng, 3, 28))
    grid = rng.integers(0, 256, size=(cells, cells), dtype=np.uint8)
    blotches = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
    one, other = vary(rng, pick(rng, GREENS + WALLS), 20), vary(rng, pick(rng, FLOORS + SKIES), 20)
    return Image.composite(Image.new("RGB", size, one), Image.new("RGB", size, other), blotches)


def _draw_toy(scene: Image.Image, rng: Generator, light: tuple[float, float]) -> None:
    """A ball or a cushion, somewhere."""
    x, y = between(rng, 0, 1) * scene.width, between(rng, 0.3, 1) * scene.height
    radius = between(rng, 0.05, 0.16) * scene.width
    contour = oval(x, y, radius * pick(rng, (1.0, 1.0, 1.7)), radius)
    stripe = taper(soft([(x - radius, y - radius), (x, y), (x + radius, y)], closed=False), start=radius / 2, end=4)
    paint(scene, contour, pick(rng, TOYS), light=light, rng=rng, marks=[(stripe, pick(rng, TOYS))])


def _draw_blades(
    canvas: Image.Image, rng: Generator, *, base: tuple[float, float], length: tuple[float, float], colour: Colour,
    count: int, width: int,
) -> None:  # fmt: skip
    pen, shades = ImageDraw.Draw(canvas), [vary(rng, mix(colour, (20, 30, 10), tone / 10), 8) for tone in range(-3, 5)]
    feet = rng.random((count, 2)) * (canvas.width, base[1] - base[0]) + (0, base[0])
    tall = length[0] + (length[1] - length[0]) * rng.random(count)
    bow = (rng.random(count) - 0.5) * tall
    halfway = feet + np.stack([bow * 0.2, tall * -0.6], axis=1)
    blades: list[list[int]] = (
        np.concatenate([feet, halfway, feet + np.stack([bow, -tall], axis=1)], axis=1).astype(np.int64).tolist()
    )
    for blade in blades:
        pen.line(blade, fill=pick(rng, shades), width=width)


def draw_foreground(canvas: Image.Image, rng: Generator, light: tuple[float, float]) -> None:
    """Put something before the animal, now and then; `canvas` is RGB."""
    width, height = canvas.size
    kind = pick(rng, ("nothing", "nothing", "nothing", "nothing", "grass", "fence", "box", "ball"))
    if kind == "grass":
        green = vary(rng, pick(rng, GREENS), 20)
        tall = between(rng, 0.15, 0.5) * height
        _draw_blades(canvas, rng, base=(height, height + 20), length=(tall / 3, tall), colour=green, count=60, width=5)
    elif kind == "fence":
        colour, thick = vary(rng, pick(rng, BOXES), 20), between(rng, 0.02, 0.06) * width
        step, lean = between(rng, 4, 7) * thick, between(rng, -0.1, 0.1) * width
        for k in range(-1, int(width / step) + 2):
            for shift, tone in ((0.0, mix(colour, (0, 0, 0), 0.35)), (light[0] * 0.3 * thick, colour)):
                top = k * step + shift
                line(canvas, np.array([(top, -9.0), (top + lean, height + 9.0)]), tone, thick - abs(shift))
    elif kind == "box":
        colour, top, lean = vary(rng, pick(rng, BOXES), 20), between(rng, 0.68, 0.88) * height, between(rng, -40, 40)
        front = np.array([(-9, top + lean), (width + 9, top - lean), (width + 9, height + 9), (-9, height + 9)])
        seam = taper(np.array([(width * 0.5, top), (width * 0.5, height + 9.0)]), start=24, end=24)
        paint(canvas, front, colour, light=light, rng=rng, marks=[(seam, mix(colour, (255, 240, 200), 0.3))], edge=3)
    elif kind == "ball":
        radius = between(rng, 0.1, 0.2) * width
        x, y = between(rng, 0, 1) * width, between(rng, 0.75, 1) * height
        cap = oval(x - radius * 0.5, y, radius * 0.7, radius * 1.2)
        marks = [(cap, pick(rng, TOYS))]
        paint(canvas, oval(x, y, radius, radius), pick(rng, TOYS), light=light, rng=rng, marks=marks, edge=3)


def photograph(canvas: Image.Image, rng: Generator) -> Image.Image:
    """Take the image of a drawn canvas: half its size, RGB, with light, cast, blur, grain and a flip."""
    image = canvas.reduce(2)
    if chance(rng, 0.5):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if chance(rng, 0.35):
        image = image.filter(ImageFilter.BoxBlur(between(rng, 0.3, 1.6)))
    contrast, brightness = between(rng, 0.65, 1.15), between(rng, -34, 30)
    tables: list[int] = []
    for _ in range(3):
        gain, cast = contrast * between(rng, 0.93, 1.07), brightness + between(rng, -8, 8)
        tables += ((np.arange(256) - 128) * gain + 128 + cast).clip(0, 255).astype(np.int64).tolist()
    image = image.point(tables)
    noise = Image.frombytes("RGB", image.size, rng.bytes(image.width * image.height * 3))
    grain = Image.blend(Image.new("RGB", image.size, GREY), noise, pick(rng, GRAINS))
    return ImageChops.add(image, grain, offset=-128)
