"""Features and splits -> a learning curve and the labels that are probably wrong, of all images that are not test."""

import numpy as np

from thaw import paths
from thaw.compute.determinism import make_deterministic
from thaw.data.features import read_features
from thaw.data.splits_csv import read_splits
from thaw.diagnosis.label_issues import check_labels
from thaw.diagnosis.label_issues_csv import write_label_issues
from thaw.diagnosis.learning_curve_csv import write_learning_curve
from thaw.diagnosis.out_of_fold import predict_out_of_fold
from thaw.params import FLOAT32, ComputeParams
from thaw.utils.progress import progress


def diagnose(compute: ComputeParams = FLOAT32) -> None:
    """Read what `split` and `embed` wrote; write the learning curve and the label issues.

    Features of the centre view alone are used: augmented ones would take as many times longer.

    Args:
        compute: how many threads solve a head.

    Raises:
        DataError: a file that a stage wrote is missing, or does not fit the others.
    """
    make_deterministic(compute)
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    rows = [row for row, split in enumerate(splits.splits) if split != "test"]
    images = tuple(splits.paths[row] for row in rows)
    labels = np.array([splits.classes.index(splits.labels[row]) for row in rows], np.int64)
    features = np.ascontiguousarray(table.select(images)[:, 0])
    with progress("diagnose", total=None, unit="heads") as bar:
        found = predict_out_of_fold(
            features,
            labels,
            groups=[splits.groups[row] for row in rows],
            classes=len(splits.classes),
            on_progress=lambda _: bar.update(),
        )
    write_learning_curve(paths.LEARNING_CURVE, found.points)
    checked = check_labels(found.probabilities, labels, paths=images, classes=splits.classes)
    write_label_issues(paths.LABEL_ISSUES, checked)
