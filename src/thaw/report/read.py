"""The files that the stages wrote -> frozen dataclasses, checked against each other."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from thaw import layout
from thaw.errors import DataError
from thaw.manifest import Row, read_manifest
from thaw.metrics import Floats, Integers
from thaw.params import Params

SPLITS = ("train", "val", "test")

_HISTORY_COLUMNS = ("phase", "train", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best")


class _File(BaseModel):
    """What a JSON file has to hold; further keys are let through."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


AnyFile = TypeVar("AnyFile", bound=_File)


class TestScores(_File):
    """Scores on the test split."""

    accuracy: float
    log_loss: float
    roc_auc: float
    ece: float


class ValScores(_File):
    """Scores on the validation split, of the epoch that was kept."""

    accuracy: float
    log_loss: float


class BestEpoch(_File):
    """Which epoch was kept: the phase counts from 0, the epoch from 1 in its phase."""

    phase: int
    epoch: int


class Metrics(_File):
    """reports/metrics/{variant}-{seed}.json."""

    test: TestScores
    val: ValScores
    trainable_parameters: int
    backbone_tensors: int
    backbone_tensors_moved: int
    best: BestEpoch


class Cost(_File):
    """data/cost/{variant}-{seed}.json."""

    train_seconds: float
    pictures_per_second: float
    peak_memory_mib: float
    device: str
    threads: int


class EmbedCost(_File):
    """data/cost/embed.json: features are computed once, for all runs."""

    seconds: float
    pictures_per_second: float
    pictures: int
    peak_memory_mib: float
    device: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One row of a training history."""

    phase: int
    train: str
    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that is known of one variant trained with one seed."""

    variant: str
    seed: int
    metrics: Metrics
    cost: Cost
    history: tuple[Epoch, ...]
    probabilities: Floats
    """Shape (N, C): test pictures in the order of `Results.test_paths`, classes in that of `Results.classes`."""
    predicted: Integers
    """The most probable class of each test picture, shape (N,)."""

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything the report is made of, except the pictures themselves."""

    classes: tuple[str, ...]
    manifest: tuple[Row, ...]
    splits: dict[str, str]
    """Path of a kept picture -> its split."""
    test_paths: tuple[str, ...]
    test_labels: Integers
    """Shape (N,), indices into `classes`."""
    test_groups: Integers
    """Shape (N,), equal numbers for test pictures that are duplicates of each other."""
    runs: tuple[Run, ...]
    """Variants in the order of params.yaml, and in each the seeds in theirs."""
    embed: EmbedCost

    def runs_of(self, variant: str) -> list[Run]:
        """The runs of one variant, a seed each."""
        return [run for run in self.runs if run.variant == variant]


def read_results(root: Path, params: Params) -> Results:
    """Read the runs that `params` names (never what else lies in the folders), and the data they were made from.

    Raises:
        DataError: a file is missing, lacks a column or a key, or contradicts another one.
    """
    manifest = tuple(read_manifest(root / layout.MANIFEST))
    splits, label_of = _read_splits(root / layout.SPLITS, manifest)
    classes = tuple(sorted(set(label_of.values())))
    test_paths = tuple(path for path, split in splits.items() if split == "test")
    return Results(
        classes=classes,
        manifest=manifest,
        splits=splits,
        test_paths=test_paths,
        test_labels=np.array([classes.index(label_of[path]) for path in test_paths]),
        test_groups=_number_groups(manifest, test_paths),
        runs=tuple(
            _read_run(root, cell, labels={path: label_of[path] for path in test_paths}, classes=classes)
            for cell in layout.all_cells(params)
        ),
        embed=_read_json(root / layout.EMBED_COST, EmbedCost),
    )


def _read_splits(path: Path, manifest: Sequence[Row]) -> tuple[dict[str, str], dict[str, str]]:
    """The split and the label of each kept picture, by its path."""
    kept = {row.path: row.label for row in manifest if row.kept}
    splits: dict[str, str] = {}
    for row in _read_rows(path, ("path", "label", "split")):
        if kept.get(row["path"]) != row["label"]:
            raise DataError(f"{path}: {row['path']!r} is not kept as {row['label']!r} in manifest.csv; run `dvc repro`")
        if row["split"] not in SPLITS:
            raise DataError(f"{path}: {row['split']!r} is not a split; expected one of {', '.join(SPLITS)}")
        splits[row["path"]] = row["split"]
    if "test" not in splits.values():
        raise DataError(f"{path} has no test picture; raise split.test_fraction or name some in split.test_list")
    return splits, {picture: kept[picture] for picture in splits}


def _number_groups(manifest: Sequence[Row], paths: Sequence[str]) -> Integers:
    """A number for each picture, shape (N,), shared by the pictures of one duplicate group."""
    group_of = {row.path: row.duplicate_group or row.path for row in manifest}
    return np.unique([group_of[path] for path in paths], return_inverse=True)[1]


def _read_run(root: Path, cell: layout.Cell, *, labels: dict[str, str], classes: tuple[str, ...]) -> Run:
    metrics_path, predictions_path = root / cell.metrics, root / cell.predictions
    metrics = _read_json(metrics_path, Metrics)
    probabilities, predicted = _read_predictions(predictions_path, labels=labels, classes=classes)
    accuracy = np.mean([classes[p] == label for p, label in zip(predicted, labels.values(), strict=True)])
    if abs(accuracy - metrics.test.accuracy) > 1e-6:
        raise DataError(
            f"{metrics_path} says test accuracy {metrics.test.accuracy:.4f}, but {predictions_path} gives "
            f"{accuracy:.4f}; run `dvc repro`"
        )
    return Run(
        variant=cell.variant,
        seed=cell.seed,
        metrics=metrics,
        cost=_read_json(root / cell.cost, Cost),
        history=_read_history(root / cell.history),
        probabilities=probabilities,
        predicted=predicted,
    )


def _read_history(path: Path) -> tuple[Epoch, ...]:
    history = tuple(
        Epoch(
            phase=int(row["phase"]),
            train=row["train"],
            epoch=int(row["epoch"]),
            train_loss=_number(path, row, "train_loss"),
            train_accuracy=_number(path, row, "train_accuracy"),
            val_loss=_number(path, row, "val_loss"),
            val_accuracy=_number(path, row, "val_accuracy"),
            best=row["best"].lower() == "true",
        )
        for row in _read_rows(path, _HISTORY_COLUMNS)
    )
    if sum(epoch.best for epoch in history) != 1:
        raise DataError(f"{path}: expected one row with best = true, found {sum(e.best for e in history)}")
    return history


def _read_predictions(path: Path, *, labels: dict[str, str], classes: tuple[str, ...]) -> tuple[Floats, Integers]:
    """Probabilities (N, C) and predicted classes (N,) of the test pictures, in the order of `labels` and `classes`."""
    columns = [f"p_{name}" for name in classes]
    rows = _read_rows(path, ("path", "label", "predicted", *columns))
    if {row["path"]: row["label"] for row in rows} != labels or len(rows) != len(labels):
        raise DataError(f"{path}: these are not the {len(labels)} test pictures of data/splits.csv; run `dvc repro`")
    unknown = sorted({row["predicted"] for row in rows} - set(classes))
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is predicted, but data/splits.csv has no such class; run `dvc repro`")
    row_of = {row["path"]: row for row in rows}
    probabilities = np.array([[_number(path, row_of[picture], column) for column in columns] for picture in labels])
    return probabilities, np.array([classes.index(row_of[picture]["predicted"]) for picture in labels])


def _number(path: Path, row: dict[str, str], column: str) -> float:
    """A finite number in a CSV file."""
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{path}: expected a finite number as {column}, found {row[column]!r}; run `dvc repro`")
    return value


def _read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns, and at least one row."""
    with _opened(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}; delete it and run `dvc repro`")
        rows = list(reader)
    if not rows:
        raise DataError(f"{path} has no rows; delete it and run `dvc repro`")
    return rows


def _read_json(path: Path, kind: type[AnyFile]) -> AnyFile:
    try:
        return kind.model_validate_json(_opened(path).read_bytes())
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise DataError(f"{path}: {where}: {detail['msg']}; delete it and run `dvc repro`") from None


def _opened(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing, and the report needs it; run `dvc repro`")
    return path
