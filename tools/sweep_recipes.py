"""What the knobs of docs/recipes.md do on real photos: trains a list of recipes and prints a table.

    python tools/sweep_recipes.py FOLDER [RECIPE ...] [--seeds 0 1 2]

FOLDER keeps the prepared images and every result, so that recipes can be run one at a time and a run that was cut
off goes on; after a change of code or parameters, take another FOLDER. Without a RECIPE, only the table of what has
been run is printed. The photos are those that lie beside the project; where there are none, it says so and ends. Of
2,002 photos 30 % are learnt from, at 96 px, so that many are left to tell recipes apart: a run takes 3 s (heads) to a
minute on 2 idle cores.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

from thaw import paths
from thaw.data.clean import clean_images
from thaw.data.split import split_images
from thaw.errors import DivergedError
from thaw.evaluation.evaluate import evaluate_cell
from thaw.ingest.unpack import unpack_archive
from thaw.params import AnyPhase, Phase, SolvedPhase
from thaw.params_file import load_params
from thaw.paths import Cell
from thaw.training.embed import embed_images
from thaw.training.train import train_cell
from thaw.utils.atomic import write_json

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = ROOT.parent / "shared" / "data" / "cats_vs_dogs_2002.zip"
PARAMS = load_params(ROOT / "params.yaml")
BACKBONE = PARAMS.backbone.model_copy(update={"image_size_px": 96})
SPLIT = PARAMS.split.model_copy(update={"val_fraction": 0.35, "test_fraction": 0.35})


def head(lr: float, epochs: int = 30) -> Phase:
    """What `frozen` does, at another rate."""
    return Phase(train="head", epochs=epochs, lr=lr)


def fine_tune(lr: float, epochs: int = 4, train: str = "all") -> Phase:
    """What `fine_tuned` does, at another rate, for longer or with another part."""
    return Phase(train=train, epochs=epochs, lr=lr)


# What params.yaml says, but for these changes to its section `training`.
RECIPES: dict[str, tuple[dict[str, object], tuple[AnyPhase, ...]]] = {
    "head_solved": ({}, (SolvedPhase(),)),
    "head_lr_0.0003": ({}, (head(0.0003),)),
    "head_lr_0.001": ({}, (head(0.001),)),
    "head_lr_0.003": ({}, (head(0.003),)),
    "head_lr_0.01": ({}, (head(0.01),)),
    "head_lr_1": ({}, (head(1.0),)),
    "head_epochs_100": ({}, (head(0.001, epochs=100),)),
    "head_decay_0.1": ({"optimizer": {"name": "adamw", "weight_decay": 0.1}}, (head(0.001),)),
    "head_sgd_lr_0.1": ({"optimizer": {"name": "sgd"}}, (head(0.1),)),
    "head_mixup_0.2": ({"mixup_alpha": 0.2}, (head(0.001),)),
    "head_smoothing_0.1": ({"label_smoothing": 0.1}, (head(0.001),)),
    "all_lr_0.00003": ({}, (fine_tune(0.00003),)),
    "all_lr_0.0001": ({}, (fine_tune(0.0001),)),
    "all_lr_0.0003": ({}, (fine_tune(0.0003),)),
    "all_lr_0.001": ({}, (fine_tune(0.001),)),
    "all_lr_0.01": ({}, (fine_tune(0.01),)),
    "all_lr_0.01_no_warm_up": ({"warmup_ratio": 0.0}, (fine_tune(0.01),)),
    "all_epochs_8": ({}, (fine_tune(0.0001, epochs=8),)),
    "all_sgd_lr_0.001": ({"optimizer": {"name": "sgd"}}, (fine_tune(0.001),)),
    "all_sgd_lr_0.01": ({"optimizer": {"name": "sgd"}}, (fine_tune(0.01),)),
    "all_lr_0.001_decay_0.7": ({"layer_decay": 0.7}, (fine_tune(0.001),)),
    "all_smoothing_0.1": ({"label_smoothing": 0.1}, (fine_tune(0.0001),)),
    "all_mixup_0.2": ({"mixup_alpha": 0.2}, (fine_tune(0.0001),)),
    "all_norm_train": ({"batch_norm": "train"}, (fine_tune(0.0001),)),
    "all_norm_train_batch_4x8": (
        {"batch_norm": "train", "batch_size": 4, "grad_accum_steps": 8},
        (fine_tune(0.0001),),
    ),
    "last_2": ({}, (fine_tune(0.0001, train="last:2"),)),
    "last_2_lr_0.001": ({}, (fine_tune(0.001, train="last:2"),)),
    "two_stage_lr_0.00003": ({}, (head(0.001), fine_tune(0.00003, epochs=3))),
    "two_stage_lr_0.0001": ({}, (head(0.001), fine_tune(0.0001, epochs=3))),
    "two_stage_lr_0.0003": ({}, (head(0.001), fine_tune(0.0003, epochs=3))),
}


def main() -> None:
    """Run what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description="Compare recipes on real photos.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=", ".join(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.recipes) - set(RECIPES))
    if unknown:
        parser.error(f"there is no recipe {unknown[0]}; there are {', '.join(RECIPES)}")
    if not PHOTOS.exists():
        print(f"no photos at {PHOTOS}: nothing to measure")
        sys.exit(0)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    if not paths.FEATURES.exists():
        prepare()
    for name in arguments.recipes:
        for seed in arguments.seeds:
            if not result_file(name, seed).exists():
                run(name, seed=seed)
    print_table()


def prepare() -> None:
    """Do what the stages before `train` do."""
    clean_images(
        unpack_archive(PHOTOS, paths.IMAGES_FOLDER, limits=PARAMS.unzip),
        params=PARAMS.clean,
        manifest=paths.MANIFEST,
        images=paths.IMAGES,
        dropped=paths.DROPPED,
    )
    split_images(paths.MANIFEST, paths.SPLITS, params=SPLIT)
    embed_images(
        backbone=BACKBONE,
        embed=PARAMS.embed,
        images=paths.IMAGES,
        features=paths.FEATURES,
        weights=paths.BACKBONE,
        cost=paths.EMBED_COST,
    )


def result_file(name: str, seed: int) -> Path:
    """Where one run's result is kept."""
    return Path("results", f"{name}-{seed}.json")


def run(name: str, *, seed: int) -> None:
    """Train and test one recipe; a loss that is not finite is a result too."""
    changes, phases = RECIPES[name]
    training = PARAMS.training.model_validate(PARAMS.training.model_dump() | changes)
    cell = Cell(name, seed)
    # Seconds of all threads together: they hardly depend on who else uses the machine.
    started_cpu_s = time.process_time()
    result: dict[str, Any]
    try:
        train_cell(
            cell,
            candidates=[phases],
            backbone=BACKBONE,
            storage=PARAMS.clean.storage,
            val=SPLIT.val,
            training=training,
        )
        cpu_s = time.process_time() - started_cpu_s
        evaluate_cell(cell, batch_size=PARAMS.embed.batch_size)
        metrics = json.loads(cell.metrics.read_text(encoding="utf-8"))
        result = {"val": metrics["val"]}
    except DivergedError as error:
        cpu_s = time.process_time() - started_cpu_s
        result = {"failure": str(error)}
    write_json(result_file(name, seed), {"cpu_s": cpu_s, **result})


def print_table() -> None:
    """Print the means over the seeds, and the range of the accuracies, in the order of RECIPES."""
    # Of val alone: a test accuracy that chose a recipe is none any more.
    print("| recipe | seeds | val accuracy | val log loss | CPU seconds |")
    print("|:--|--:|--:|--:|--:|")
    for name in RECIPES:
        files = sorted(Path("results").glob(f"{name}-[0-9]*.json"))
        results = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        failures = [result for result in results if "failure" in result]
        if failures:
            print(f"| `{name}` | {len(results)} | failed with {len(failures)}: {failures[0]['failure']} | | |")
        elif results:
            figures = summary([result["val"] for result in results])
            print(f"| `{name}` | {len(results)} | {' | '.join(figures)} | {mean(r['cpu_s'] for r in results):.0f} |")


def summary(metrics: list[dict[str, float]]) -> tuple[str, str]:
    """The mean accuracy with its range over the seeds, and the mean log loss."""
    accuracies = [seed["accuracy"] for seed in metrics]
    spread = f"{min(accuracies) * 100:.1f} to {max(accuracies) * 100:.1f}"
    return f"{mean(accuracies):.1%} ({spread})", f"{mean(seed['log_loss'] for seed in metrics):.3f}"


if __name__ == "__main__":
    main()
