"""Images of the data set -> captioned tiles, and sheets of them."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image, ImageOps

from thaw import paths
from thaw.data.image_zip import ImageZip
from thaw.data.manifest import Row
from thaw.params import Params, SplitParams, ValDraw
from thaw.report.results import Results, Run

TILE_PX = 112
"""A tile's side on a sheet, and about that on the page."""
LARGE_PX = 200
"""What the page holds, and shows when a tile is clicked."""
JPEG_QUALITIES = (78, 65, 50, 35, 20)
"""The first that keeps an image within THUMBNAIL_BYTES."""
THUMBNAIL_BYTES = 6_000
FIRST_TEST_IMAGES = 32
MOST_CONFIDENT_ERRORS = 8
IMAGES_PER_CLASS = 16
CLASSES_SHOWN = 20
CLASS_IMAGES = 160
"""At most so many of all classes together, so that the page stays small."""
PREDICTED_IMAGES = 200
"""At most so many of all variants together, likewise."""
DUPLICATE_GROUPS_SHOWN = 12
GROUP_MEMBERS_SHOWN = 6
DROPPED_SHOWN = 16
DAMAGED_SHOWN = 16
LABEL_ISSUES_SHOWN = 24


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image with what is to be said about it."""

    image: Image.Image | None
    """At most LARGE_PX on its longer side; None where there is nothing to show."""
    title: str
    note: str
    mark: Literal["", "correct", "wrong"] = ""

    @property
    def data_uri(self) -> str:
        """The image as a JPEG inside a URI, or "" if there is none."""
        if self.image is None:
            return ""
        return f"data:image/jpeg;base64,{base64.b64encode(_encode_jpeg(self.image)).decode()}"


@dataclass(frozen=True, kw_only=True)
class TileGroup:
    """Tiles under one heading."""

    title: str
    tiles: tuple[Tile, ...]
    more: int = 0
    """How many further images belong here, but are not shown."""


class Thumbnails:
    """Small versions of images, each read and shrunk once."""

    def __init__(self, root: Path) -> None:
        """Open images.zip and dropped.zip under the project's `root`; DataError if one is missing or damaged."""
        self._kept = ImageZip(root / paths.IMAGES)
        self._dropped = ImageZip(root / paths.DROPPED)
        self._small: dict[str, Image.Image] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()
        self._dropped.close()

    def kept(self, path: str) -> Image.Image:
        """An image of images.zip; DataError if it is not there."""
        return self._read(self._kept, path)

    def row(self, row: Row) -> Image.Image:
        """The image of a row of the manifest that decodes, kept or dropped."""
        return self._read(self._kept if row.kept else self._dropped, row.path)

    def _read(self, archive: ImageZip, path: str) -> Image.Image:
        small = self._small.get(path) or shrink(Image.fromarray(archive.read_image(path).pixels()), side_px=LARGE_PX)
        self._small[path] = small
        return small


def shrink(image: Image.Image, *, side_px: int) -> Image.Image:
    """Fit an image into a square; one of less than half its size is enlarged by whole pixels, to be seen."""
    longest = max(image.size)
    if longest * 2 <= side_px:
        return ImageOps.scale(image, side_px // longest, resample=Image.Resampling.NEAREST)
    if longest <= side_px:
        return image
    small = image.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return small


def _encode_jpeg(image: Image.Image) -> bytes:
    """A JPEG of at most THUMBNAIL_BYTES, as good as that allows; of pure noise a bit more."""
    for quality in JPEG_QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= THUMBNAIL_BYTES:
            break
    return buffer.getvalue()


def natural_key(path: str) -> tuple[list[str | int], str]:
    """Sorts by file name, with numbers as numbers: Cat/0, Dog/0, Cat/1, ..., Cat/10. All classes take turns."""
    parts = re.split(r"([0-9]+)", path.rsplit("/", 1)[-1])
    return [int(part) if part.isdecimal() else part for part in parts], path


def name_split(results: Results, path: str, *, val: ValDraw) -> str:
    """The split of an image, or "" if it is in none; where each seed draws its own val, train and val are one."""
    split = results.splits.get(path, "")
    return "train or val" if val == "per_seed" and split in ("train", "val") else split


def gather_predictions(thumbnails: Thumbnails, results: Results, run: Run) -> list[TileGroup]:
    """The first test images, as they come, and the misclassified ones of highest confidence."""
    order = sorted(range(len(results.test_paths)), key=lambda i: natural_key(results.test_paths[i]))
    variants = len({run.variant for run in results.runs})
    first = order[: min(FIRST_TEST_IMAGES, max(4, PREDICTED_IMAGES // variants - MOST_CONFIDENT_ERRORS))]
    confidence = run.probabilities.max(axis=1)  # (N,)
    misclassified = [i for i in order if run.predicted[i] != results.test_labels[i]]
    worst = sorted(misclassified, key=lambda i: -confidence[i])[:MOST_CONFIDENT_ERRORS]
    groups = [
        TileGroup(
            title=f"the first {len(first)} test images by file name",
            tiles=tuple(_predicted_tile(thumbnails, results, run, i) for i in first),
        )
    ]
    if worst:
        found = f"{len(misclassified):,}"
        some = len(worst) < len(misclassified)
        which = (
            f"the {len(worst)} most confident of {found}" if some else f"all {found}" if len(worst) > 1 else "the only"
        )
        groups.append(
            TileGroup(
                title=f"{which} misclassified image{'s' * (len(misclassified) > 1)}",
                tiles=tuple(_predicted_tile(thumbnails, results, run, i) for i in worst),
            )
        )
    return groups


def _predicted_tile(thumbnails: Thumbnails, results: Results, run: Run, i: int) -> Tile:
    predicted, truth = (results.classes[k] for k in (run.predicted[i], results.test_labels[i]))
    wrong = predicted != truth
    return Tile(
        image=thumbnails.kept(results.test_paths[i]),
        # The number first: a long name is cut off at its end.
        title=f"{100 * run.probabilities[i].max():.0f} % {predicted}",
        note=f"is {truth}",
        mark="wrong" if wrong else "correct",
    )


def gather_classes(thumbnails: Thumbnails, results: Results, *, split: SplitParams) -> list[TileGroup]:
    """A random sheet of each class."""
    rng = np.random.default_rng(split.seed)
    groups = []
    shown = results.classes[:CLASSES_SHOWN]
    per_class = min(IMAGES_PER_CLASS, CLASS_IMAGES // len(shown))
    for name in shown:
        members = sorted(row.path for row in results.manifest if row.kept and row.label == name)
        chosen = [members[i] for i in rng.permutation(len(members))[:per_class]]
        notes = [name_split(results, path, val=split.val) for path in chosen]
        groups.append(
            TileGroup(
                title=name,
                tiles=tuple(
                    Tile(image=thumbnails.kept(path), title=_file_name(path), note=note)
                    for path, note in zip(chosen, notes, strict=True)
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


def gather_duplicates(thumbnails: Thumbnails, results: Results, *, val: ValDraw) -> list[TileGroup]:
    """Images that are the same, side by side: the first groups of `group_duplicates`."""
    return [
        TileGroup(
            title=f"{'near' if _are_near(rows) else 'exact'} duplicates",
            tiles=tuple(
                Tile(
                    image=thumbnails.row(row),
                    title=_short_name(row),
                    note=name_split(results, row.path, val=val) if row.kept else row.reason,
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


def gather_dropped(thumbnails: Thumbnails, results: Results) -> TileGroup:
    """Dropped files that are images nevertheless: too small, or under two labels."""
    rows = [row for row in results.manifest if not row.kept and row.width_px is not None]
    tiles = tuple(
        Tile(image=thumbnails.row(row), title=_short_name(row), note=row.reason) for row in rows[:DROPPED_SHOWN]
    )
    return TileGroup(title="Dropped, though they decode", tiles=tiles, more=len(rows) - len(tiles))


def gather_damaged(thumbnails: Thumbnails, results: Results) -> TileGroup:
    """Kept images that are probably damaged."""
    rows = [row for row in results.manifest if row.kept and row.damage]
    tiles = tuple(
        Tile(image=thumbnails.kept(row.path), title=_short_name(row), note=row.damage) for row in rows[:DAMAGED_SHOWN]
    )
    return TileGroup(title="Kept, though probably damaged", tiles=tiles, more=len(rows) - len(tiles))


def gather_label_issues(thumbnails: Thumbnails, results: Results) -> TileGroup:
    """Images whose label is probably wrong, the most probable first: the likely label above the given one."""
    ranked = [(row.rank, row) for row in results.checked_labels if row.rank is not None]
    issues = [row for _, row in sorted(ranked, key=lambda issue: issue[0])]
    tiles = tuple(
        Tile(
            image=thumbnails.kept(row.path),
            title=f"{100 * row.p_likely_label:.0f} % {row.likely_label}",
            note=f"labelled {row.label}",
            mark="wrong",
        )
        for row in issues[:LABEL_ISSUES_SHOWN]
    )
    return TileGroup(title="Labels that may be wrong", tiles=tiles, more=len(issues) - len(tiles))


def _short_name(row: Row) -> str:
    return "/".join(row.path.split("/")[-2:])


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def gather_data(
    thumbnails: Thumbnails, results: Results, params: Params, *, label_issues: bool
) -> dict[str, list[TileGroup]]:
    """The sheets of the page on the data: `classes`, `duplicates`, `dropped`, `damaged`, `label_issues`.

    `label_issues`: whether the heads that checked the labels are good enough to be believed.
    """
    return {
        "classes": gather_classes(thumbnails, results, split=params.split),
        "duplicates": gather_duplicates(thumbnails, results, val=params.split.val),
        "dropped": [gather_dropped(thumbnails, results)],
        "damaged": [gather_damaged(thumbnails, results)],
        "label_issues": [gather_label_issues(thumbnails, results)] if label_issues else [],
    }
