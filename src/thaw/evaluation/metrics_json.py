"""reports/metrics/**/VARIANT-SEED.json: the scores of a run on the test split, external sets and corrupted images.

The writers beside the readers.
"""

from pathlib import Path

from thaw.network.model_card import BestEpoch
from thaw.utils.records import Record, read_record, write_record


class ScoresOnTest(Record):
    """Scores on the test split, or on an external test set, of probabilities after temperature scaling."""

    accuracy: float
    balanced_accuracy: float
    """The mean recall of the classes."""
    log_loss: float
    roc_auc: float
    ece: float


class UncalibratedScores(Record):
    """Scores on the test split before temperature scaling, which changes no accuracy."""

    log_loss: float
    ece: float


class ValScores(Record):
    """Scores on the validation split, of the epoch that was kept, before temperature scaling.

    It was chosen by this log loss, or with `training.class_weights: balanced` by one in which classes count the same.
    """

    accuracy: float
    log_loss: float


class Metrics(Record):
    """All that the file holds."""

    test: ScoresOnTest
    recall: dict[str, float]
    """Of the images of each class in the test split, the share that is classified correctly."""

    uncalibrated: UncalibratedScores
    val: ValScores
    trainable_parameters: int
    """Of the phase that trains most."""

    backbone_tensors: int
    """Parameters and buffers."""

    backbone_parameter_tensors: int
    """How many of them are parameters; the others are buffers, such as BatchNorm's statistics."""

    backbone_tensors_moved: int
    """How many differ by a bit from the pretrained ones."""

    best: BestEpoch


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write the scores of a run."""
    write_record(path, metrics)


def read_metrics(path: Path) -> Metrics:
    """Read what `write_metrics` wrote; DataError if it is missing or is something else."""
    return read_record(path, Metrics, stage="evaluate")


class ExternalMetrics(Record):
    """What the file of a run holds on an external test set."""

    external: ScoresOnTest


def write_external_metrics(path: Path, metrics: ExternalMetrics) -> None:
    """Write the scores of a run on an external test set."""
    write_record(path, metrics)


def read_external_metrics(path: Path) -> ExternalMetrics:
    """Read what `write_external_metrics` wrote; DataError if it is missing or is something else."""
    return read_record(path, ExternalMetrics, stage="evaluate_external")


class CorruptedMetrics(Record):
    """What the file of a run holds on the test split under one corruption."""

    accuracy: float
    """Mean over severities."""

    accuracy_by_severity: dict[str, float]
    """From the mildest, "1", to the most severe, "5"."""


def write_corrupted_metrics(path: Path, metrics: CorruptedMetrics) -> None:
    """Write the accuracies of a run under a corruption."""
    write_record(path, metrics)


def read_corrupted_metrics(path: Path) -> CorruptedMetrics:
    """Read what `write_corrupted_metrics` wrote; DataError if it is missing or is something else."""
    return read_record(path, CorruptedMetrics, stage="evaluate_corrupted")
