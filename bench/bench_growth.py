"""What an epoch costs as the data grows 1, 2, 4 and 8 times: head phases and `all` phases, validation included.

    python bench/bench_growth.py

A small network at 32 px, so that the cost of everything around it shows; linear growth leaves the time per picture as
it is.
"""

import tempfile
from pathlib import Path

from photos import PARAMS, require_photos, write_small_pictures, write_splits
from thaw.backbones import build_backbone
from thaw.dataset import read_assignment
from thaw.device import keep_freed_memory
from thaw.embed import embed_pictures, read_features
from thaw.fit import fit
from thaw.images import PicturesFile
from thaw.model import Classifier
from thaw.params import BackboneParams, Phase

SMALL = BackboneParams(name="mobilenet_v3_small", weights="none", blocks=4, image_size_px=32)
FEWEST = 500
PHASES = (Phase(train="head", epochs=3, lr=0.001), Phase(train="all", epochs=1, lr=0.001))


def main() -> None:
    """Print the table."""
    require_photos()
    keep_freed_memory()
    print(f"{'pictures':>8}", *(f"{f'{phase.train}, us/picture':>19} {'x first':>8}" for phase in PHASES))
    first: list[float] = []
    for times in (1, 2, 4, 8):
        costs_us = measure(times * FEWEST)
        first = first or costs_us
        row = (f"{cost_us:19.0f} {cost_us / first_us:8.2f}" for cost_us, first_us in zip(costs_us, first, strict=True))
        print(f"{times * FEWEST:8,}", *row)


def measure(count: int) -> list[float]:
    """Microseconds per training picture and epoch, of each phase."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        pictures, features, splits = scratch / "pictures.zip", scratch / "features.safetensors", scratch / "splits.csv"
        write_small_pictures(pictures, count=count, side_px=48)
        write_splits(pictures, splits)
        embed_pictures(backbone=SMALL, batch_size=32, pictures=pictures, features=features, cost=scratch / "embed.json")
        assignment, table = read_assignment(splits), read_features(features)
        with PicturesFile(pictures) as archive:
            result = fit(
                Classifier(build_backbone(SMALL), classes=assignment.classes, seed=0),
                PHASES,
                name="growth-0",
                train=assignment.select("train", features=table, classes=assignment.classes),
                val=assignment.select("val", features=table, classes=assignment.classes),
                pictures=archive,
                params=PARAMS.training,
                seed=0,
            )
    return [1e6 / cost.pictures_per_second for cost in result.costs]


if __name__ == "__main__":
    main()
