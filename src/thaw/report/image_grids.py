"""Tiles -> sheets, drawn as PNG."""

import functools
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from thaw.report.fonts import choose_file
from thaw.report.thumbnails import TILE_PX, Tile, TileGroup, shrink

COLUMNS = 8
GAP_PX = 8
LINE_PX = 15
INK, MUTED, GOOD, BAD = "#1d2329", "#6b7580", "#1a7f4b", "#c62f2f"
"""Text colours of a sheet, on white."""


def draw_sheet(groups: Sequence[TileGroup]) -> bytes:
    """All groups, one under the other, as a PNG that is COLUMNS tiles wide."""
    cell_width, cell_height = TILE_PX + GAP_PX, TILE_PX + 2 * LINE_PX + 2 * GAP_PX
    rows_of = [max(1, -(-len(group.tiles) // COLUMNS)) for group in groups]
    heading_height = LINE_PX + 2 * GAP_PX
    height = sum(heading_height + rows * cell_height for rows in rows_of) + GAP_PX
    sheet = Image.new("RGB", (COLUMNS * cell_width + GAP_PX, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP_PX
    for group, rows in zip(groups, rows_of, strict=True):
        more = f"   (and {group.more:,} more)" if group.more else ""
        heading = group.title + more
        draw.text((GAP_PX, top), heading, fill=INK, font=_font(heading, 13, bold=True))
        top += heading_height - GAP_PX
        for i, tile in enumerate(group.tiles):
            _draw_tile(sheet, draw, tile, GAP_PX + i % COLUMNS * cell_width, top + i // COLUMNS * cell_height)
        top += rows * cell_height + GAP_PX
    return to_png(sheet)


def to_png(image: Image.Image) -> bytes:
    """A PNG of at most 256 colours: a third of the bytes, and good enough for thumbnails."""
    buffer = io.BytesIO()
    image.quantize(256, Image.Quantize.FASTOCTREE).save(buffer, "PNG")
    return buffer.getvalue()


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    draw.rectangle((left, top, left + TILE_PX - 1, top + TILE_PX - 1), fill="#eef0f2")
    if tile.image is not None:
        small = shrink(tile.image, side_px=TILE_PX)
        width, height = small.size
        sheet.paste(small, (left + (TILE_PX - width) // 2, top + (TILE_PX - height) // 2))
    if tile.mark == "wrong":
        draw.rectangle((left - 2, top - 2, left + TILE_PX + 1, top + TILE_PX + 1), outline=BAD, width=3)
    sign, color = {"correct": ("✓ ", GOOD), "wrong": ("✗ ", BAD), "": ("", INK)}[tile.mark]
    _draw_line(draw, sign + tile.title, (left, top + TILE_PX + 3), fill=color, bold=True)
    _draw_line(draw, tile.note, (left, top + TILE_PX + 3 + LINE_PX), fill=MUTED)


def _draw_line(draw: ImageDraw.ImageDraw, text: str, at: tuple[int, int], *, fill: str, bold: bool = False) -> None:
    """Draw a text, cut short where it would leave its tile."""
    shown, font = text, _font(text, 11, bold=bold)
    while draw.textlength(shown, font=font) > TILE_PX and len(shown) > 2:
        shown = shown[:-2] + "…"
    draw.text(at, shown, fill=fill, font=font)


def _font(text: str, size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font that holds the letters of the text: DejaVu, which matplotlib brings along, wherever it does."""
    return _load_font(choose_file(text, bold=bold), size_px)


@functools.cache
def _load_font(path: Path, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size_px)
