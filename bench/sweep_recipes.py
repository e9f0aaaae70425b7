"""What the knobs of docs/recipes.md do on real photos: trains a list of recipes and prints a table.

    python bench/sweep_recipes.py FOLDER [RECIPE ...] [--seed 0]

FOLDER keeps the prepared pictures and every result, so that recipes can be run one at a time; without a RECIPE, only
the table of what has been run is printed. The photos are those that lie beside the project; where there are none, it
says so and ends. 600 pictures to learn from, at 96 px: a recipe takes half a minute on 2 idle cores.
"""

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from thaw import layout
from thaw.archive import unpack_archive
from thaw.atomic import write_json
from thaw.clean import clean_pictures
from thaw.embed import embed_pictures
from thaw.errors import TrainingError
from thaw.evaluate import evaluate_cell
from thaw.layout import Cell
from thaw.params import Phase, load_params
from thaw.split import split_pictures
from thaw.train import train_cell
from vary_photos import PHOTOS

ROOT = Path(__file__).resolve().parent.parent
PARAMS = load_params(ROOT / "params.yaml")
BACKBONE = PARAMS.backbone.model_copy(update={"image_size_px": 96})
TRAIN_PICTURES = 600


def head(lr: float) -> Phase:
    """What `frozen` does, at another rate."""
    return Phase(train="head", epochs=30, lr=lr)


def thaw(train: str, lr: float) -> Phase:
    """What `fine_tuned` does, with another part or at another rate."""
    return Phase(train=train, epochs=4, lr=lr)


# What params.yaml says, but for these changes to its section `training`.
RECIPES: dict[str, tuple[dict[str, object], tuple[Phase, ...]]] = {
    "head": ({}, (head(0.001),)),
    "head_lr_0.01": ({}, (head(0.01),)),
    "head_lr_1": ({}, (head(1.0),)),
    "head_mixup_0.2": ({"mixup_alpha": 0.2}, (head(0.001),)),
    "head_smoothing_0.1": ({"label_smoothing": 0.1}, (head(0.001),)),
    "all": ({}, (thaw("all", 0.0001),)),
    "all_lr_0.001": ({}, (thaw("all", 0.001),)),
    "all_lr_0.01": ({}, (thaw("all", 0.01),)),
    "all_lr_0.01_no_warm_up": ({"warm_up_share": 0.0}, (thaw("all", 0.01),)),
    "all_sgd_lr_0.01": ({"optimizer": "sgd"}, (thaw("all", 0.01),)),
    "all_lr_0.001_decay_0.7": ({"block_lr_decay": 0.7}, (thaw("all", 0.001),)),
    "all_smoothing_0.1": ({"label_smoothing": 0.1}, (thaw("all", 0.0001),)),
    "all_mixup_0.2": ({"mixup_alpha": 0.2}, (thaw("all", 0.0001),)),
    "all_norm_train": ({"batch_norm": "train"}, (thaw("all", 0.0001),)),
    "all_norm_train_batch_4x8": (
        {"batch_norm": "train", "batch_size": 4, "accumulate_batches": 8},
        (thaw("all", 0.0001),),
    ),
    "last_2": ({}, (thaw("last:2", 0.0001),)),
    "last_2_lr_0.001": ({}, (thaw("last:2", 0.001),)),
    "two_stage": ({}, (head(0.001), Phase(train="all", epochs=3, lr=0.00003))),
}


def main() -> None:
    """Run what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description="Compare recipes on real photos.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=", ".join(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.recipes) - set(RECIPES))
    if unknown:
        parser.error(f"there is no recipe {unknown[0]}; there are {', '.join(RECIPES)}")
    if not PHOTOS.exists():
        print(f"no photos at {PHOTOS}: nothing to measure")
        sys.exit(0)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    if not layout.FEATURES.exists():
        prepare()
    for name in arguments.recipes:
        run(name, seed=arguments.seed)
    print_table()


def prepare() -> None:
    """Do what the stages before `train` do, and drop what is more than TRAIN_PICTURES from the training split."""
    unpack_archive(PHOTOS, layout.PICTURES_FOLDER, limits=PARAMS.unzip)
    clean_pictures(
        layout.PICTURES_FOLDER,
        params=PARAMS.clean,
        manifest=layout.MANIFEST,
        pictures=layout.PICTURES,
        dropped=layout.DROPPED,
    )
    everything = Path("data/all_splits.csv")
    split_pictures(layout.MANIFEST, everything, params=PARAMS.split.model_copy(update={"val_fraction": 0.15}))
    with everything.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    train = [row for row in rows if row["split"] == "train"]
    labels = sorted({row["label"] for row in train})
    of_class = {label: [row for row in train if row["label"] == label] for label in labels}
    kept = {row["path"] for label in labels for row in of_class[label][: TRAIN_PICTURES // len(labels)]}
    with layout.SPLITS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if row["split"] != "train" or row["path"] in kept)
    embed_pictures(
        backbone=BACKBONE,
        batch_size=PARAMS.embed.batch_size,
        pictures=layout.PICTURES,
        features=layout.FEATURES,
        cost=layout.EMBED_COST,
    )


def run(name: str, *, seed: int) -> None:
    """Train and test one recipe; a loss that is not finite is a result too."""
    changes, phases = RECIPES[name]
    training = PARAMS.training.model_validate(PARAMS.training.model_dump() | changes)
    cell = Cell(name, seed)
    # Seconds of all threads together: they hardly depend on who else uses the machine.
    started_cpu_s = time.process_time()
    result: dict[str, Any]
    try:
        train_cell(cell, phases=phases, backbone=BACKBONE, training=training)
        cpu_s = time.process_time() - started_cpu_s
        evaluate_cell(cell, batch_size=PARAMS.embed.batch_size)
        metrics = json.loads(cell.metrics.read_text(encoding="utf-8"))
        result = {"test": metrics["test"], "val": metrics["val"]}
    except TrainingError as error:
        cpu_s = time.process_time() - started_cpu_s
        result = {"failure": str(error)}
    write_json(Path("results", f"{cell}.json"), {"recipe": name, "seed": seed, "cpu_s": cpu_s, **result})


def print_table() -> None:
    """Print all results, in the order of RECIPES."""
    print("| recipe | seed | val accuracy | val log loss | test accuracy | test log loss | CPU seconds |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path("results").glob("*.json"))]
    for result in sorted(results, key=lambda result: (list(RECIPES).index(result["recipe"]), result["seed"])):
        figures = (
            f"{result[split]['accuracy']:.1%} | {result[split]['log_loss']:.3f}" if split in result else "failed | "
            for split in ("val", "test")
        )
        print(f"| `{result['recipe']}` | {result['seed']} | {' | '.join(figures)} | {result['cpu_s']:.0f} |")


if __name__ == "__main__":
    main()
