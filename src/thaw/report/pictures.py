"""Pictures of the data set -> captioned tiles, and sheets of them."""

import base64
import functools
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from thaw import layout
from thaw.images import PicturesFile
from thaw.manifest import Row
from thaw.params import Params
from thaw.report.read import Results, Run

TILE_PX = 112
JPEG_QUALITY = 80
FIRST_TEST_PICTURES = 32
WORST_MISTAKES = 8
PICTURES_PER_CLASS = 16
CLASSES_SHOWN = 20
DUPLICATE_GROUPS_SHOWN = 12
GROUP_MEMBERS_SHOWN = 6
DROPPED_SHOWN = 16
DAMAGED_SHOWN = 16

COLUMNS = 8
GAP_PX = 8
LINE_PX = 15
INK, MUTED, GOOD, BAD = "#1d2329", "#6b7580", "#1a7f4b", "#c62f2f"
"""Text colours of a sheet, on white."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture with what is to be said about it."""

    picture: Image.Image | None
    """At most TILE_PX on its longer side; None where there is nothing to show."""
    title: str
    note: str
    mark: Literal["", "right", "wrong"] = ""

    @property
    def data_uri(self) -> str:
        """The picture as a JPEG inside a URI, or "" if there is none."""
        if self.picture is None:
            return ""
        buffer = io.BytesIO()
        self.picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True, kw_only=True)
class TileGroup:
    """Tiles under one heading."""

    title: str
    tiles: tuple[Tile, ...]
    more: int = 0
    """How many further pictures belong here, but are not shown."""


class Album:
    """Small versions of pictures, each read and shrunk once."""

    def __init__(self, root: Path) -> None:
        """Open pictures.zip and dropped.zip under the project's `root`; DataError if one is missing or damaged."""
        self._kept = PicturesFile(root / layout.PICTURES)
        self._dropped = PicturesFile(root / layout.DROPPED)
        self._small: dict[str, Image.Image] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()
        self._dropped.close()

    def kept(self, path: str) -> Image.Image:
        """A picture of pictures.zip; DataError if it is not there."""
        return self._read(self._kept, path)

    def row(self, row: Row) -> Image.Image:
        """The picture of a row of the manifest that decodes, kept or dropped."""
        return self._read(self._kept if row.kept else self._dropped, row.path)

    def _read(self, archive: PicturesFile, path: str) -> Image.Image:
        small = self._small.get(path) or _shrink(Image.fromarray(archive.read_pixels(path)))
        self._small[path] = small
        return small


def _shrink(image: Image.Image) -> Image.Image:
    """Fit a picture into a tile; one of less than half its size is enlarged by whole pixels, so that it can be seen."""
    longest = max(image.size)
    if longest * 2 <= TILE_PX:
        return ImageOps.scale(image, TILE_PX // longest, resample=Image.Resampling.NEAREST)
    image.thumbnail((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
    return image


def natural_key(path: str) -> tuple[list[str | int], str]:
    """Sorts by file name, with numbers as numbers: Cat/0, Dog/0, Cat/1, ..., Cat/10. All classes take turns."""
    parts = re.split(r"([0-9]+)", path.rsplit("/", 1)[-1])
    return [int(part) if part.isdecimal() else part for part in parts], path


def gather_predictions(album: Album, results: Results, run: Run) -> list[TileGroup]:
    """The first test pictures, as they come, and the mistakes that the model was surest of."""
    order = sorted(range(len(results.test_paths)), key=lambda i: natural_key(results.test_paths[i]))
    first = order[:FIRST_TEST_PICTURES]
    confidence = run.probabilities.max(axis=1)  # (N,)
    mistakes = [i for i in order if run.predicted[i] != results.test_labels[i]]
    worst = sorted(mistakes, key=lambda i: -confidence[i])[:WORST_MISTAKES]
    groups = [
        TileGroup(
            title=f"the first {len(first)} test pictures by file name",
            tiles=tuple(_predicted_tile(album, results, run, i) for i in first),
        )
    ]
    if worst:
        which = "all" if len(worst) == len(mistakes) else f"the {len(worst)} surest of"
        groups.append(
            TileGroup(
                title=f"{which} {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}",
                tiles=tuple(_predicted_tile(album, results, run, i) for i in worst),
            )
        )
    return groups


def _predicted_tile(album: Album, results: Results, run: Run, i: int) -> Tile:
    predicted, truth = (results.classes[k] for k in (run.predicted[i], results.test_labels[i]))
    wrong = predicted != truth
    return Tile(
        picture=album.kept(results.test_paths[i]),
        # The number first: a long name is cut off at its end.
        title=f"{100 * run.probabilities[i].max():.0f} % {predicted}",
        note=f"is {truth}",
        mark="wrong" if wrong else "right",
    )


def gather_classes(album: Album, results: Results, *, seed: int) -> list[TileGroup]:
    """A random sheet of each class."""
    rng = np.random.default_rng(seed)
    groups = []
    for name in results.classes[:CLASSES_SHOWN]:
        members = sorted(row.path for row in results.manifest if row.kept and row.label == name)
        chosen = [members[i] for i in rng.permutation(len(members))[:PICTURES_PER_CLASS]]
        groups.append(
            TileGroup(
                title=name,
                tiles=tuple(
                    Tile(picture=album.kept(path), title=_file_name(path), note=results.splits.get(path, ""))
                    for path in chosen
                ),
                more=len(members) - len(chosen),
            )
        )
    return groups


def group_duplicates(results: Results) -> list[list[Row]]:
    """The duplicate groups, those with the most to say first: label conflicts, then near ones, then exact ones."""
    members: dict[str, list[Row]] = {}
    for row in results.manifest:
        if row.duplicate_group:
            members.setdefault(row.duplicate_group, []).append(row)
    return sorted(members.values(), key=lambda rows: (all(r.kept for r in rows), not _are_near(rows), rows[0].path))


def gather_duplicates(album: Album, results: Results) -> list[TileGroup]:
    """Pictures that are the same, side by side: the first groups of `group_duplicates`."""
    return [
        TileGroup(
            title=f"{'near' if _are_near(rows) else 'exact'} duplicates",
            tiles=tuple(
                Tile(
                    picture=album.row(row),
                    title=_short_name(row),
                    note=results.splits.get(row.path, "") if row.kept else row.reason,
                    mark="" if row.kept else "wrong",
                )
                for row in rows[:GROUP_MEMBERS_SHOWN]
            ),
            more=max(0, len(rows) - GROUP_MEMBERS_SHOWN),
        )
        for rows in group_duplicates(results)[:DUPLICATE_GROUPS_SHOWN]
    ]


def _are_near(rows: Sequence[Row]) -> bool:
    return any(row.duplicate_kind == "near" for row in rows)


def gather_dropped(album: Album, results: Results) -> TileGroup:
    """Dropped files that are pictures nevertheless: too small, or under two labels."""
    rows = [row for row in results.manifest if not row.kept and row.width_px is not None]
    tiles = tuple(Tile(picture=album.row(row), title=_short_name(row), note=row.reason) for row in rows[:DROPPED_SHOWN])
    return TileGroup(title="Dropped, though they decode", tiles=tiles, more=len(rows) - len(tiles))


def gather_damaged(album: Album, results: Results) -> TileGroup:
    """Kept pictures that are probably damaged."""
    rows = [row for row in results.manifest if row.kept and row.damage]
    tiles = tuple(
        Tile(picture=album.kept(row.path), title=_short_name(row), note=row.damage) for row in rows[:DAMAGED_SHOWN]
    )
    return TileGroup(title="Kept, though probably damaged", tiles=tiles, more=len(rows) - len(tiles))


def _short_name(row: Row) -> str:
    return "/".join(row.path.split("/")[-2:])


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def gather_data(album: Album, results: Results, params: Params) -> dict[str, list[TileGroup]]:
    """The sheets of the page on the data: `classes`, `duplicates`, `dropped` and `damaged`."""
    return {
        "classes": gather_classes(album, results, seed=params.split.seed),
        "duplicates": gather_duplicates(album, results),
        "dropped": [gather_dropped(album, results)],
        "damaged": [gather_damaged(album, results)],
    }


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
        draw.text((GAP_PX, top), group.title + more, fill=INK, font=_font(13, bold=True))
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
    if tile.picture is not None:
        width, height = tile.picture.size
        sheet.paste(tile.picture, (left + (TILE_PX - width) // 2, top + (TILE_PX - height) // 2))
    if tile.mark == "wrong":
        draw.rectangle((left - 2, top - 2, left + TILE_PX + 1, top + TILE_PX + 1), outline=BAD, width=3)
    sign, color = {"right": ("✓ ", GOOD), "wrong": ("✗ ", BAD), "": ("", INK)}[tile.mark]
    _draw_line(draw, sign + tile.title, (left, top + TILE_PX + 3), fill=color, font=_font(11, bold=True))
    _draw_line(draw, tile.note, (left, top + TILE_PX + 3 + LINE_PX), fill=MUTED, font=_font(11))


def _draw_line(
    draw: ImageDraw.ImageDraw, text: str, at: tuple[int, int], *, fill: str, font: ImageFont.FreeTypeFont
) -> None:
    """Draw a text, cut short where it would leave its tile."""
    shown = text
    while draw.textlength(shown, font=font) > TILE_PX and len(shown) > 2:
        shown = shown[:-2] + "…"
    draw.text(at, shown, fill=fill, font=font)


@functools.cache
def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu, which matplotlib brings along: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size_px)
