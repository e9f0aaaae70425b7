"""What the benchmarks share: the real photos beside the project, and a clock."""

import io
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from thaw.compute.cores import JOBS, count_cores
from thaw.data.clean import clean_images
from thaw.data.features import LabelledImages
from thaw.data.image_zip import ImageZip
from thaw.data.split import split_images
from thaw.data.splits_csv import SplitTable, read_splits
from thaw.ingest.unpack import unpack_archive
from thaw.network.model_folder import is_model_folder
from thaw.params import BackboneParams
from thaw.params_file import load_params
from thaw.paths import Cell
from vary_photos import PHOTOS

ROOT = Path(__file__).resolve().parent.parent
PARAMS = load_params(ROOT / "params.yaml")
LITE0_AT_224_PX = BackboneParams(name="tf_efficientnet_lite0", weights="imagenet", blocks=None, image_size_px=224)


def require_photos() -> None:
    """End the program with a message where there are no photos."""
    if not PHOTOS.is_file():
        print(f"{Path(sys.argv[0]).stem}: skipped, since there is no archive {PHOTOS}")
        sys.exit()


def require_model() -> Path:
    """The model that the command line names, or the first frozen one; ends the program where it is not there."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else Cell("frozen", 0).model
    if not is_model_folder(model):
        print(f"{Path(sys.argv[0]).stem}: skipped, since there is no model {model}")
        sys.exit()
    return model


def clean_and_split(scratch: Path, *, archive: Path = PHOTOS) -> tuple[Path, SplitTable]:
    """Clean and split images, as the stages do: images.zip and the splits."""
    manifest, images = scratch / "manifest.csv", scratch / "images.zip"
    clean_images(
        unpack_archive(archive, scratch / "images", limits=PARAMS.unzip),
        params=PARAMS.clean,
        manifest=manifest,
        images=images,
        dropped=scratch / "dropped.zip",
    )
    split_images(manifest, scratch / "splits.csv", params=PARAMS.split)
    return images, read_splits(scratch / "splits.csv")


def write_small_images(destination: Path, *, count: int, side_px: int) -> None:
    """An archive of `count` small images, as `clean` would write it: 64 real photos shrunk, again and again."""
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


def write_splits(images: Path, destination: Path) -> None:
    """A splits.csv for an archive: of five images one to val, one to test; an image's folder is its label."""
    with ImageZip(images) as archive:
        rows = [
            f"{path},{Path(path).parent.name},{('val', 'test', 'train', 'train', 'train')[number % 5]},{path}"
            for number, path in enumerate(archive.paths)
        ]
    destination.write_text("\n".join(["path,label,split,group", *rows, ""]), encoding="utf-8")


def select_without_features(splits: SplitTable, split: str, *, count: int | None = None) -> LabelledImages:
    """The first `count` images of a split, or all, for phases that read no features."""
    rows = [row for row, name in enumerate(splits.splits) if name == split][:count]
    return LabelledImages(
        paths=tuple(splits.paths[row] for row in rows),
        labels=np.array([splits.classes.index(splits.labels[row]) for row in rows], np.int64),
        views=np.zeros((len(rows), 1, 1), np.float32),
    )


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare_with_network_alone(whole: Callable[[], object], alone: Callable[[], object], *, rounds: int) -> list[float]:
    """What a way that fetches its images reaches of what the network alone does, on tensors that lie in memory.

    Both run in turns, so that a busy machine slows both.

    Returns:
        The fastest seconds of each, their ratio, and the ratio of processor seconds, which is what is reached where no
        core is to spare.
    """
    turns: list[tuple[float, ...]] = []
    for _ in range(rounds):
        turn: list[float] = []
        for function in (whole, alone):
            processor_s = time.process_time()
            turn.append(seconds(function))
            turn.append(time.process_time() - processor_s)
        turns.append(tuple(turn))
    whole_s, whole_processor_s, alone_s, alone_processor_s = (min(column) for column in zip(*turns, strict=True))
    return [whole_s, alone_s, alone_s / whole_s, alone_processor_s / whole_processor_s]


def share_cores() -> None:
    """Let a stage have one thread for the network and one to fetch images, as where `thaw repro` runs one a core."""
    os.environ.setdefault(JOBS, str(count_cores()))
