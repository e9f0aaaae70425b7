"""The solved head against scikit-learn's logistic regression, on features of real images; and what large ones take.

    python bench/bench_head_solver.py

On real features both solve the problem of the penalty that the path chose: the largest difference between their
coefficients on standardised features, over the largest coefficient, and that between their log losses on val. Large
features are drawn, with a spectrum like a network's: eigenvalues that fall as 1 / rank, and what is negative cut off as
by a ReLU. Seconds are the processor's, to which neighbours on a busy machine add little: those of our whole path of
penalties, and of scikit-learn's one fit.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from photos import PARAMS, clean_and_split, require_photos
from thaw.compute.determinism import make_deterministic
from thaw.data.features import LabelledImages, read_features, select_split
from thaw.params import BackboneParams
from thaw.training.embed import embed_images
from thaw.training.head_solver import SolvedHead, solve_head
from vary_photos import PHOTOS

SHARED = PHOTOS.parents[1]
FLOWERS, CIFAR10 = PHOTOS.with_name("flowers_12_unbalanced.zip"), PHOTOS.with_name("cifar-10-python-5k.tar.gz")
WEIGHTS = SHARED / "weights" / "mobilenet_v2-imagenet-features.pth"
LITE0 = BackboneParams(name="tf_efficientnet_lite0", weights="imagenet", blocks=None, image_size_px=96)
RESNET18 = BackboneParams(name="resnet18", weights="none", blocks=None, image_size_px=96)
FIVE_BLOCKS = BackboneParams(name="mobilenet_v2", weights="file", weights_file=str(WEIGHTS), blocks=5, image_size_px=64)
REAL = (
    ("photos, EfficientNet-Lite0", PHOTOS, LITE0),
    ("photos, ResNet18, random weights", PHOTOS, RESNET18),
    ("flowers, EfficientNet-Lite0", FLOWERS, LITE0),
    ("CIFAR-10 5k, 5 blocks of MobileNetV2", CIFAR10, FIVE_BLOCKS),
)
DRAWN = ((25_000, 1_280, 2), (25_000, 1_280, 200), (10_000, 2_048, 200))
"""Rows to train on, their width, and classes; a fifth as many rows validate."""


def main() -> None:
    """Print both tables."""
    require_photos()
    make_deterministic()
    print(f"{'features of':37} {'N x D, classes':>20} {'coefficients':>12} {'log loss':>9} {'path':>8} {'sklearn':>12}")
    for name, archive, backbone in REAL:
        missing = [file for file in (archive, backbone.file) if file is not None and not file.is_file()]
        if missing:
            print(f"{name:37} skipped, since there is no {missing[0]}")
            continue
        train, val, classes = compute_features(archive, backbone)
        compare(name, train, val, classes=classes)
    print(f"\n{'drawn, N x D, classes':>26} {'seconds':>8} {'penalties':>9} {'evaluations':>11} {'val accuracy':>12}")
    for rows, width, classes in DRAWN:
        measure(rows, width, classes=classes)


def compute_features(archive: Path, backbone: BackboneParams) -> tuple[LabelledImages, LabelledImages, int]:
    """What the stages before `train` make of an archive: train, val, and the number of classes."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        features = scratch / "features.safetensors"
        images, splits = clean_and_split(scratch, archive=archive)
        one_view = PARAMS.embed.model_copy(update={"views": 1})
        embed_images(
            backbone=backbone,
            embed=one_view,
            images=images,
            features=features,
            weights=scratch / "backbone.safetensors",
            cost=scratch / "embed.json",
        )
        table = read_features(features)
        train, val = (
            select_split(split, splits=splits, features=table, classes=splits.classes) for split in ("train", "val")
        )
        return train, val, len(splits.classes)


def compare(name: str, train: LabelledImages, val: LabelledImages, *, classes: int) -> None:
    """Print how far the two are apart on one set of features."""
    ours: list[SolvedHead] = []
    path_s = processor_seconds(
        lambda: ours.append(solve(train.features, train.labels, val.features, val.labels, classes))
    )
    chosen = ours[0].path[ours[0].chosen]
    scaler = StandardScaler().fit(train.features.astype(np.float64))
    rows, val_rows = (scaler.transform(split.features.astype(np.float64)) for split in (train, val))
    # For two classes scikit-learn penalises its one vector twice as much: see `training.head_solver`.
    strength = (2 if classes == 2 else 1) / (len(rows) * chosen.penalty)
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=100_000)
    fit_s = processor_seconds(lambda: theirs.fit(rows, train.labels))
    coefficients = np.concatenate([-theirs.coef_, theirs.coef_]) / 2 if classes == 2 else theirs.coef_
    coefficients = coefficients - coefficients.mean(axis=0)
    # A feature that never moves has the weight 0 in ours, and is scaled by 1 in theirs.
    differences = np.abs(ours[0].weight * scaler.scale_ - coefficients)
    loss = log_loss(val.labels, theirs.predict_proba(val_rows), labels=np.arange(classes))
    shape = f"{len(rows):,} x {rows.shape[1]:,}, {classes}"
    print(
        f"{name:37} {shape:>20} {differences.max() / np.abs(coefficients).max():12.1e} "
        f"{abs(loss - chosen.val_log_loss):9.1e} {path_s:6.1f} s {fit_s:10.1f} s",
        flush=True,
    )


def measure(rows: int, width: int, *, classes: int) -> None:
    """Print what a path of penalties takes on drawn features."""
    train, labels, val, val_labels = draw_features(rows, width, classes=classes)
    ours: list[SolvedHead] = []
    taken_s = processor_seconds(lambda: ours.append(solve(train, labels, val, val_labels, classes)))
    path, chosen = ours[0].path, ours[0].path[ours[0].chosen]
    assert all(fit.converged for fit in path)
    print(
        f"{f'{rows:,} x {width:,}, {classes}':>26} {taken_s:8.0f} {len(path):9} "
        f"{sum(fit.evaluations for fit in path):11,} {chosen.val_accuracy:12.1%}",
        flush=True,
    )


def processor_seconds(function: Callable[[], object]) -> float:
    """What a call takes of the processor, of all threads together."""
    start = time.process_time()
    function()
    return time.process_time() - start


def solve(train: np.ndarray, labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray, classes: int) -> SolvedHead:
    """As a `head` phase does."""
    return solve_head(train, labels, val_features=val, val_labels=val_labels, classes=classes)


def draw_features(rows: int, width: int, *, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, D) and labels (N,) to train on and to validate; about as hard to tell apart as photos are."""
    torch.manual_seed(0)
    total = rows + rows // 5
    labels = torch.arange(total) % classes
    spread = torch.arange(1, width + 1).float().rsqrt()  # standard deviations of the principal components
    apart = 4 if classes == 2 else 7  # two centres, in standard deviations within a class
    centres = apart / (2 * width) ** 0.5 * torch.randn(classes, width) * spread
    basis = torch.linalg.qr(torch.randn(width, width)).Q
    features = torch.empty(total, width)
    for start in range(0, total, 5_000):
        part = slice(start, start + 5_000)
        components = centres[labels[part]] + torch.randn(len(labels[part]), width) * spread
        features[part] = (components @ basis).add_(0.05).relu_()
    order = torch.randperm(total)
    features, labels = features[order], labels[order]
    values, names = features.numpy(), labels.numpy()
    return values[:rows], names[:rows], values[rows:], names[rows:]


if __name__ == "__main__":
    main()
