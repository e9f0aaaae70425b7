"""What computing the features once saves: the frozen variant against the usual loop, which computes them in each epoch.

    python bench/bench_frozen.py [--whole]

EfficientNet-Lite0 at 224 px, the same photos, centre views, head, batches, optimiser and 10 epochs, each with its
validation. The usual loop is torch's DataLoader with a worker a core and the frozen backbone in eager mode, as people
write it. Its epochs cost the same each, so it is timed on some images of one epoch and the rest is reckoned;
--whole runs it to its end (10 minutes or more on 2 cores) and compares the accuracies.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from photos import LITE0_AT_224_PX, PARAMS, clean_and_split, require_photos, seconds, select_without_features
from thaw.compute.memory import keep_freed_memory
from thaw.data.features import LabelledImages, read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.data.tensors import normalise
from thaw.data.transforms import centre_view
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import Phase
from thaw.paths import Cell
from thaw.training.embed import embed_images
from thaw.training.inputs import TrainingData
from thaw.training.loop import fit
from thaw.training.optim import build_optimizer, warmup_cosine

CPU = torch.device("cpu")
PHASE = Phase(train="head", epochs=10, lr=0.001)
TIMED_IMAGES = 256


class Photos(Dataset[tuple[Tensor, int]]):
    """A split as torch's DataLoader wants it."""

    def __init__(self, archive: ImageZip, split: LabelledImages, model: Classifier) -> None:
        self.archive, self.split, self.preprocessing = archive, split, model.preprocessing

    def __len__(self) -> int:
        return len(self.split.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        view = centre_view(self.archive.read_image(self.split.paths[index]), self.preprocessing)
        return normalise(view[None].copy(), self.preprocessing, CPU)[0].contiguous(), int(self.split.labels[index])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare the frozen variant with the usual loop.")
    parser.add_argument("--whole", action="store_true", help="run the usual loop to its end, and compare accuracies")
    whole = parser.parse_args().whole
    require_photos()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        images, splits = clean_and_split(scratch)
        counts = {split: splits.splits.count(split) for split in ("train", "val")}
        with ImageZip(images) as archive:
            count = None if whole else TIMED_IMAGES
            train = select_without_features(splits, "train", count=count)
            val = select_without_features(splits, "val", count=count)
            # First: memory that our own way keeps would make it faster.
            usual_s, usual_accuracy = run_usual_loop(archive, train, val, epochs=PHASE.epochs if whole else 1)
            if not whole:
                usual_s *= PHASE.epochs * sum(counts.values()) / (len(train.paths) + len(val.paths))
            keep_freed_memory()
            features = scratch / "features.safetensors"
            embed_s = seconds(lambda: embed(images, features))
            head_s, accuracy = run_frozen_variant(archive, features, scratch / "splits.csv")
    how = "" if whole else f" (reckoned from {len(train.paths)} + {len(val.paths)} images of one epoch)"
    print(f"{counts['train']:,} + {counts['val']:,} photos, {PHASE.epochs} epochs, EfficientNet-Lite0 at 224 px")
    print(f"usual loop{how}: {usual_s:.0f} s")
    print(f"thaw, first run: {embed_s:.1f} s for the features of all splits, {head_s:.2f} s of training")
    print(f"  first run, features included: {usual_s / (embed_s + head_s):6.1f} x faster")
    print(f"  each further seed or variant: {usual_s / head_s:6.1f} x faster")
    print(f"  3 seeds in all:               {3 * usual_s / (embed_s + 3 * head_s):6.1f} x faster")
    print(f"validation accuracy: {accuracy:.1%}" + (f", usual loop {usual_accuracy:.1%}" if whole else ""))


def embed(images: Path, features: Path) -> None:
    """What the stage `embed` does."""
    embed_images(
        backbone=LITE0_AT_224_PX,
        embed=PARAMS.embed,
        images=images,
        features=features,
        weights=features.with_suffix(".backbone"),
        cost=features.with_suffix(".json"),
    )


def run_frozen_variant(archive: ImageZip, features: Path, splits: Path) -> tuple[float, float]:
    """Seconds of a head phase, and the validation accuracy of its last epoch."""
    table_of_splits, table = read_splits(splits), read_features(features)
    model = new_model()
    train, val = (
        select_split(split, splits=table_of_splits, features=table, classes=table_of_splits.classes)
        for split in ("train", "val")
    )
    result = fit(
        model,
        [PHASE],
        cell=Cell("frozen", 0),
        data=TrainingData(train=train, val=val, images=archive),
        params=PARAMS.training.model_copy(update={"patience_epochs": PHASE.epochs}),
    )
    return result.costs[0].seconds, result.history.epochs[-1].val_accuracy


def run_usual_loop(
    archive: ImageZip, train: LabelledImages, val: LabelledImages, *, epochs: int
) -> tuple[float, float]:
    """Seconds of the loop, and its last validation accuracy."""
    torch.manual_seed(0)
    model = new_model().to(memory_format=torch.contiguous_format)
    optimizer = build_optimizer(model, PHASE, PARAMS.training)
    loaders = [
        DataLoader(
            Photos(archive, split, model),
            batch_size=PARAMS.training.batch_size,
            shuffle=split is train,
            num_workers=torch.get_num_threads(),
            persistent_workers=True,
        )
        for split in (train, val)
    ]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, warmup_cosine(PHASE.epochs * len(loaders[0]), warmup_ratio=PARAMS.training.warmup_ratio)
    )
    model.eval()
    accuracies: list[float] = []

    def run_epoch() -> None:
        for images, labels in loaders[0]:
            with torch.no_grad():
                made = model.backbone(images)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model.head(made), labels).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            correct = sum(int((model(images).argmax(dim=1) == labels).sum()) for images, labels in loaders[1])
        accuracies.append(correct / len(val.paths))

    took_s = sum(seconds(run_epoch) for _ in range(epochs))
    return took_s, accuracies[-1]


def new_model() -> Classifier:
    """The backbone under a new head, the same each time."""
    return Classifier(build_backbone(LITE0_AT_224_PX), classes=("Cat", "Dog"), seed=0)


if __name__ == "__main__":
    main()
