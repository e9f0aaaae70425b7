"""What an epoch costs as the data grows 1, 2, 4 and 8 times: head phases and `all` phases, validation included.

    python bench/bench_growth.py

A small network at 32 px, so that the cost of everything around it shows; linear growth leaves the time per image as
it is.
"""

import tempfile
from pathlib import Path

from photos import PARAMS, require_photos, write_small_images, write_splits
from thaw.compute.determinism import make_deterministic
from thaw.compute.memory import keep_freed_memory
from thaw.data.features import read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import BackboneParams, Phase
from thaw.paths import Cell
from thaw.training.embed import embed_images
from thaw.training.inputs import TrainingData
from thaw.training.loop import fit

SMALL = BackboneParams(name="mobilenet_v3_small", weights="none", blocks=4, image_size_px=32)
COUNTS = (500, 1_000, 2_000, 4_000)
ROUNDS = 3
PHASES = (Phase(train="head", epochs=3, lr=0.001), Phase(train="all", epochs=1, lr=0.001))


def main() -> None:
    """Print the table."""
    require_photos()
    make_deterministic()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folders = {count: Path(name) / str(count) for count in COUNTS}
        for count, folder in folders.items():
            prepare(folder, count=count)
        measure(folders[COUNTS[0]])  # torch's own start
        # In turns, so that a busy machine slows all sizes.
        rounds = [{count: measure(folder) for count, folder in folders.items()} for _ in range(ROUNDS)]
    best_us = {count: [min(costs) for costs in zip(*(r[count] for r in rounds), strict=True)] for count in COUNTS}
    print(f"{'images':>8}", *(f"{f'{phase.train}, us/image':>19} {'x first':>8}" for phase in PHASES))
    for count, costs_us in best_us.items():
        pairs = zip(costs_us, best_us[COUNTS[0]], strict=True)
        print(f"{count:8,}", *(f"{cost_us:19.0f} {cost_us / first_us:8.2f}" for cost_us, first_us in pairs))


def prepare(folder: Path, *, count: int) -> None:
    """Do what the stages before `train` do with so many small images."""
    folder.mkdir()
    write_small_images(folder / "images.zip", count=count, side_px=48)
    write_splits(folder / "images.zip", folder / "splits.csv")
    embed_images(
        backbone=SMALL,
        embed=PARAMS.embed,
        images=folder / "images.zip",
        features=folder / "features.safetensors",
        weights=folder / "backbone.safetensors",
        cost=folder / "embed.json",
    )


def measure(folder: Path) -> list[float]:
    """Microseconds per training image and epoch, of each phase."""
    splits, table = read_splits(folder / "splits.csv"), read_features(folder / "features.safetensors")
    with ImageZip(folder / "images.zip") as archive:
        result = fit(
            Classifier(build_backbone(SMALL), classes=splits.classes, seed=0),
            PHASES,
            cell=Cell("growth", 0),
            data=TrainingData(
                train=select_split("train", splits=splits, features=table, classes=splits.classes),
                val=select_split("val", splits=splits, features=table, classes=splits.classes),
                images=archive,
            ),
            params=PARAMS.training,
        )
    return [1e6 / cost.images_per_second for cost in result.costs]


if __name__ == "__main__":
    main()
