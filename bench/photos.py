"""What the benchmarks share: the real photos beside the project, and a clock."""

import io
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from thaw.archive import unpack_archive
from thaw.clean import clean_pictures
from thaw.dataset import Assignment, LabelledPictures, read_assignment
from thaw.images import PicturesFile
from thaw.params import BackboneParams, load_params
from thaw.split import split_pictures
from vary_photos import PHOTOS

ROOT = Path(__file__).resolve().parent.parent
PARAMS = load_params(ROOT / "params.yaml")
LITE0_AT_224_PX = BackboneParams(name="tf_efficientnet_lite0", weights="imagenet", blocks=None, image_size_px=224)


def require_photos() -> None:
    """End the program with a message where there are no photos."""
    if not PHOTOS.is_file():
        print(f"{Path(sys.argv[0]).stem}: skipped, since there is no archive {PHOTOS}")
        sys.exit()


def clean_and_split(scratch: Path) -> tuple[Path, Assignment]:
    """Clean and split the photos as the stages do: pictures.zip and the assignment."""
    folder, manifest, pictures = scratch / "pictures", scratch / "manifest.csv", scratch / "pictures.zip"
    unpack_archive(PHOTOS, folder, limits=PARAMS.unzip)
    clean_pictures(
        folder,
        params=PARAMS.clean,
        manifest=manifest,
        pictures=pictures,
        dropped=scratch / "dropped.zip",
    )
    split_pictures(manifest, scratch / "splits.csv", params=PARAMS.split)
    return pictures, read_assignment(scratch / "splits.csv")


def write_small_pictures(destination: Path, *, count: int, side_px: int) -> None:
    """An archive of `count` small pictures, as `clean` would write it: 64 real photos shrunk, again and again."""
    with zipfile.ZipFile(PHOTOS) as archive:
        # The planted faults have longer names.
        names = [name for name in sorted(archive.namelist()) if len(Path(name).stem) <= 4][:64]
        encoded = [_shrink(archive.read(name), side_px) for name in names]
    with zipfile.ZipFile(destination, "w") as small:
        for number in range(count):
            label = ("Cat", "Dog")[number % 2]
            small.writestr(f"{label}/{number:06}.jpg", encoded[number % len(encoded)])


def _shrink(data: bytes, side_px: int) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").resize((side_px, side_px)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_splits(pictures: Path, destination: Path) -> None:
    """A splits.csv for an archive: of five pictures one to val, one to test; a picture's folder is its label."""
    with PicturesFile(pictures) as archive:
        rows = [
            f"{path},{Path(path).parent.name},{('val', 'test', 'train', 'train', 'train')[number % 5]}"
            for number, path in enumerate(archive.paths)
        ]
    destination.write_text("\n".join(["path,label,split", *rows, ""]), encoding="utf-8")


def select_without_features(assignment: Assignment, split: str, *, count: int | None = None) -> LabelledPictures:
    """The first `count` pictures of a split, or all, for phases that read no features."""
    rows = [row for row, name in enumerate(assignment.splits) if name == split][:count]
    return LabelledPictures(
        paths=tuple(assignment.paths[row] for row in rows),
        labels=np.array([assignment.classes.index(assignment.labels[row]) for row in rows], np.int64),
        views=np.zeros((len(rows), 1, 1), np.float32),
    )


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
