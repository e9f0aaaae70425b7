"""Whether the memory of embed and train grows with the number of images.

    python bench/bench_memory.py

Each row is a process of its own: the stage's function on a small network at 32 px, of few images and of many. Only
the features themselves may grow (576 float32 an image): in `train` once as they are read, and once divided into
splits.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from photos import PARAMS, require_photos, write_small_images, write_splits
from thaw import paths
from thaw.compute.memory import process_peak_mib
from thaw.params import BackboneParams, Phase
from thaw.paths import Cell
from thaw.training.embed import embed_images
from thaw.training.train import train_cell

FEW, MANY = 2_000, 20_000
SMALL = BackboneParams(name="mobilenet_v3_small", weights="none", blocks=None, image_size_px=32)
FEATURES_BYTES = 576 * 4
PHASES = (Phase(train="head", epochs=1, lr=0.001), Phase(train="all", epochs=1, lr=0.001))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the memory of embed and train.")
    parser.add_argument("--print-peak-of", choices=STAGES, help=argparse.SUPPRESS)
    stage = parser.parse_args().print_peak_of
    if stage:
        STAGES[stage]()
        print(process_peak_mib())
        return
    require_photos()
    peaks_mib = {count: measure(count) for count in (FEW, MANY)}
    grown_features_mib = (MANY - FEW) * FEATURES_BYTES / 2**20
    print(f"peak MiB {f'{FEW:,} images':>16} {f'{MANY:,} images':>16} {'grown by':>9} {'features':>9}")
    for stage in STAGES:
        few, many = peaks_mib[FEW][stage], peaks_mib[MANY][stage]
        print(f"{stage:8} {few:16.0f} {many:16.0f} {many - few:9.0f} {grown_features_mib:9.0f}")


def measure(count: int) -> dict[str, float]:
    """The peak of each stage, in MiB."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        (project / paths.IMAGES).parent.mkdir(parents=True)
        write_small_images(project / paths.IMAGES, count=count, side_px=48)
        write_splits(project / paths.IMAGES, project / paths.SPLITS)
        return {stage: measure_peak(stage, project) for stage in STAGES}


def measure_peak(stage: str, project: Path) -> float:
    """Run a stage in a process of its own, and return the most memory that it ever held, in MiB."""
    command = [sys.executable, str(Path(__file__).resolve()), "--print-peak-of", stage]
    printed = subprocess.run(command, cwd=project, env=os.environ, check=True, stdout=subprocess.PIPE, text=True)
    return float(printed.stdout)


def embed() -> None:
    """What the stage `embed` does."""
    embed_images(
        backbone=SMALL,
        embed=PARAMS.embed,
        images=paths.IMAGES,
        features=paths.FEATURES,
        weights=paths.BACKBONE,
        cost=paths.EMBED_COST,
    )


def train() -> None:
    """What the stage `train` does, with a head phase and an `all` phase."""
    train_cell(
        Cell("two_stage", 0),
        candidates=[PHASES],
        backbone=SMALL,
        storage=PARAMS.clean.storage,
        val=PARAMS.split.val,
        training=PARAMS.training,
    )


STAGES = {"embed": embed, "train": train}


if __name__ == "__main__":
    main()
