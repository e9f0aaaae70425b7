"""What maps at the cut save: a `last:2` phase on cached views against the same on fresh ones, and against `all`.

    python bench/bench_last.py [--seeds 3] [--epochs 4] [--images N]

EfficientNet-Lite0 at 96 px on real photos, val drawn by each seed, one thread a batch. Processor seconds are those of
all threads of this process, so they compare on a busy machine too; the maps are counted where they are used. With
--images, only so many images of each split: for a look at the seconds.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from photos import LITE0_AT_224_PX, PARAMS, clean_and_split, require_photos, select_without_features
from thaw.compute.determinism import make_deterministic
from thaw.compute.memory import keep_freed_memory
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import SplitTable, redraw_val
from thaw.evaluation.predict import predict_images
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import FLOAT32, Phase
from thaw.paths import Cell
from thaw.training.inputs import TrainingData
from thaw.training.loop import fit

BACKBONE = LITE0_AT_224_PX.model_copy(update={"image_size_px": 96})
ONE_VIEW, FOUR_VIEWS, FRESH, ALL = "last:2, views: 1", "last:2, views: 4", "last:2", "all"
ROW = "{:18} {:>14} {:>7} {:>10} {:>7} {:>8} {:>8}  {}"


def main() -> None:
    """Print a row for each training as it ends, and then the means."""
    parser = argparse.ArgumentParser(description="Compare last:2 on cached views with last:2 and all.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int)
    arguments = parser.parse_args()
    require_photos()
    make_deterministic()
    keep_freed_memory()
    last = Phase(train="last:2", epochs=arguments.epochs, lr=0.0003, head_lr=0.003)
    recipes = {
        ALL: last.model_copy(update={"train": "all"}),
        FRESH: last,
        FOUR_VIEWS: last.model_copy(update={"views": 4}),
        ONE_VIEW: last.model_copy(update={"views": 1}),
    }
    head = f"{arguments.epochs} epochs, 96 px"
    print(ROW.format(head, "processor s", "x all", "wall s", "x all", "val", "test", "seed"), flush=True)
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in recipes}
    with tempfile.TemporaryDirectory() as scratch:
        archive, splits = clean_and_split(Path(scratch))
        with ImageZip(archive) as images:
            for seed in range(arguments.seeds):
                for name, phase in recipes.items():
                    drawn = redraw_val(splits, seed=seed)
                    rows[name].append(train(phase, images, drawn, seed=seed, count=arguments.images))
                    print_row(name, rows[name][-1], rows[ALL][-1], label=str(seed))
    for name in recipes:
        ours, whole = ([mean(column) for column in zip(*rows[key], strict=True)] for key in (name, ALL))
        print_row(name, ours, whole, label="mean")


def print_row(name: str, ours: Sequence[float], whole: Sequence[float], *, label: str) -> None:
    """One line of the table: seconds, their ratios to `all`, and accuracies."""
    processor_s, wall_s, val, test = ours
    ratios = [f"{own / other:.2f}" for own, other in zip(ours, whole, strict=True)]
    print(
        ROW.format(
            name, f"{processor_s:.1f}", ratios[0], f"{wall_s:.1f}", ratios[1], f"{val:.1%}", f"{test:.1%}", label
        ),
        flush=True,
    )


def train(
    phase: Phase, images: ImageZip, splits: SplitTable, *, seed: int, count: int | None
) -> tuple[float, float, float, float]:
    """Processor seconds and seconds of a training, and the accuracy of its kept epoch on val and on test."""
    model = Classifier(build_backbone(BACKBONE), classes=splits.classes, seed=seed)
    train_split, val, test = (select_without_features(splits, split, count=count) for split in ("train", "val", "test"))
    data = TrainingData(train=train_split, val=val, images=images)
    processor_s, wall_s = time.process_time(), time.perf_counter()
    result = fit(model, [phase], cell=Cell("bench", seed), data=data, params=PARAMS.training)
    processor_s, wall_s = time.process_time() - processor_s, time.perf_counter() - wall_s
    probabilities = predict_images(
        model,
        lambda index: images.read_image(test.paths[index]),
        count=len(test.paths),
        batch_size=PARAMS.training.batch_size,
        label="test",
        temperature=1.0,
        compute=FLOAT32,
    )
    return processor_s, wall_s, result.best.val_accuracy, float((probabilities.argmax(axis=1) == test.labels).mean())


if __name__ == "__main__":
    main()
