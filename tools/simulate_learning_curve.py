"""How well a learning curve says what twice the images would bring: small data sets drawn from a large one.

    python tools/simulate_learning_curve.py data --images 400 --draws 100

The folder holds splits.csv and features.safetensors. Each draw is a data set of so many images, on which the project's
functions say what twice as many to train on would bring; the truth is the mean over many heads that are trained on so
many, and on twice as many, and tested on all other images. Keep a quarter of the images or less in a draw.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.data.features import read_features
from thaw.data.splits_csv import read_splits
from thaw.diagnosis.extrapolation import Gain, extrapolate_gain
from thaw.diagnosis.out_of_fold import FOLDS, TOLERANCE, predict_out_of_fold
from thaw.training.head_solver import solve_head

HEADS = 30
"""Over which the truth is the mean."""


def measure_error(
    features: NDArray[np.float32], labels: NDArray[np.int64], *, images: int, rng: np.random.Generator
) -> float:
    """The error rate after training on so many images, mean over heads; all other images test."""
    classes = int(labels.max()) + 1
    errors: list[float] = []
    while len(errors) < HEADS:
        order = rng.permutation(len(labels))
        train, test = order[:images], order[images:]
        if len(np.unique(labels[train])) < classes:
            continue
        head = solve_head(
            features[train],
            labels[train],
            val_features=features[test],
            val_labels=labels[test],
            classes=classes,
            tolerance=TOLERANCE,
        )
        predicted = (features[test] @ head.weight.T + head.bias).argmax(axis=1)
        errors.append(float(np.mean(predicted != labels[test])))
    return float(np.mean(errors))


def simulate(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    images: int,
    draws: int,
    groups: Sequence[str] | None = None,
) -> dict[str, float]:
    """Coverage of the interval, and what is predicted on average, beside the truth."""
    rng = np.random.default_rng(0)
    names = groups or [str(i) for i in range(len(labels))]
    classes = int(labels.max()) + 1
    trained_on = round(images * (1 - 1 / FOLDS))
    now, doubled = (measure_error(features, labels, images=n, rng=rng) for n in (trained_on, 2 * trained_on))
    gains: list[Gain] = []
    while len(gains) < draws:
        rows = rng.permutation(len(labels))[:images]
        if np.bincount(labels[rows], minlength=classes).min() < 2:
            continue
        of_rows = [names[i] for i in rows.tolist()]
        found = predict_out_of_fold(features[rows], labels[rows], groups=of_rows, classes=classes)
        gain = extrapolate_gain(found.points, images=trained_on)
        assert gain is not None
        gains.append(gain)
    return {
        "images": images,
        "error_percent": 100 * now,
        "true_gain_points": 100 * (now - doubled),
        "predicted_gain_points": 100 * float(np.mean([gain.difference for gain in gains])),
        "predicted_sd_points": 100 * float(np.std([gain.difference for gain in gains])),
        "half_width_points": 50 * float(np.mean([gain.interval[1] - gain.interval[0] for gain in gains])),
        "coverage": float(np.mean([gain.interval[0] <= now - doubled <= gain.interval[1] for gain in gains])),
        "called_visible": float(np.mean([gain.interval[0] > 0 for gain in gains])),
    }


def main() -> None:
    """Read a data set, simulate, print one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--draws", type=int, default=100)
    arguments = parser.parse_args()
    splits, table = (
        read_splits(arguments.folder / "splits.csv"),
        read_features(arguments.folder / "features.safetensors"),
    )
    labels = np.array([splits.classes.index(label) for label in splits.labels], np.int64)
    features = np.ascontiguousarray(table.select(splits.paths)[:, 0])
    row = simulate(features, labels, images=arguments.images, draws=arguments.draws, groups=splits.groups)
    print(", ".join(f"{name} {value:.3g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
