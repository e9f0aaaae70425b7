"""The files that the stages wrote -> frozen dataclasses, checked against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw import paths
from thaw.data.manifest import Row, read_manifest
from thaw.data.splits_csv import SplitTable, read_splits
from thaw.diagnosis.label_issues_csv import CheckedLabel, read_label_issues
from thaw.diagnosis.learning_curve_csv import CurvePoint, read_learning_curve
from thaw.errors import DataError
from thaw.evaluation.corrupted_csv import read_corrupted_predictions
from thaw.evaluation.metrics_json import (
    Metrics,
    ScoresOnTest,
    read_corrupted_metrics,
    read_external_metrics,
    read_metrics,
)
from thaw.evaluation.predictions_csv import read_predictions
from thaw.evaluation.scores import Floats, Integers
from thaw.network.model_card import ModelCard, read_model_card
from thaw.params import AnyPhase, Corruption, Params, list_candidates
from thaw.training.cost_json import EmbedCost, TrainCost, read_embed_cost, read_train_cost
from thaw.training.history_csv import History, read_history
from thaw.training.notes import Training


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that is known of one variant trained with one seed."""

    variant: str
    seed: int
    card: ModelCard
    """What was tried, chosen and computed in training."""
    metrics: Metrics
    cost: TrainCost
    history: History
    probabilities: Floats
    """Shape (N, C), after temperature scaling: test images in the order of `Results.test_paths`, classes in that of
    `Results.classes`."""
    predicted: Integers
    """The most probable class of each test image, shape (N,)."""

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.seed}"

    @property
    def training(self) -> Training:
        """Card and history, for what a reader has to know of them."""
        return Training(card=self.card, history=self.history)

    @property
    def trained_phases(self) -> tuple[AnyPhase, ...]:
        """The phases that the kept weights went through: later ones made nothing better and were discarded."""
        return self.card.phases[: self.card.best.phase + 1]


@dataclass(frozen=True, kw_only=True)
class ExternalRun:
    """What a run says of an external test set."""

    variant: str
    scores: ScoresOnTest
    predicted: Integers
    """The most probable class of each image, shape (N,)."""


@dataclass(frozen=True, kw_only=True)
class ExternalResults:
    """An external test set, and all runs on it."""

    name: str
    manifest: tuple[Row, ...]
    labels: Integers
    """Shape (N,), indices into `Results.classes`."""
    groups: Integers
    """Shape (N,), equal numbers for images that are duplicates of each other."""
    runs: tuple[ExternalRun, ...]
    """In the order of `Results.runs`."""

    def runs_of(self, variant: str) -> list[ExternalRun]:
        """The runs of one variant, a seed each."""
        return [run for run in self.runs if run.variant == variant]

    def correct(self, variant: str) -> NDArray[np.bool_]:
        """Which images each seed's model gets correct, shape (S, N)."""
        return np.stack([run.predicted == self.labels for run in self.runs_of(variant)])


@dataclass(frozen=True, kw_only=True)
class CorruptedResults:
    """The test split under one corruption, and all runs on it."""

    corruption: Corruption
    correct: dict[str, NDArray[np.bool_]]
    """Variant -> which images each seed's model gets correct at each severity, shape (S, N, 5); the images in the order
    of `Results.test_paths`."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything the report is made of, except the images themselves."""

    classes: tuple[str, ...]
    manifest: tuple[Row, ...]
    splits: dict[str, str]
    """Path of a kept image -> its split."""
    given_splits: frozenset[str]
    """The splits that were not drawn."""
    test_paths: tuple[str, ...]
    test_labels: Integers
    """Shape (N,), indices into `classes`."""
    test_groups: Integers
    """Shape (N,), equal numbers for test images that are duplicates of each other."""
    runs: tuple[Run, ...]
    """Variants in the order of params.yaml, and in each the seeds in theirs."""
    embed: EmbedCost
    learning_curve: tuple[CurvePoint, ...]
    """Of all images that are not test."""
    checked_labels: tuple[CheckedLabel, ...]
    """Of the same images."""
    external: tuple[ExternalResults, ...]
    """In the order of params.yaml."""
    corrupted: tuple[CorruptedResults, ...]
    """Likewise."""

    def runs_of(self, variant: str) -> list[Run]:
        """The runs of one variant, a seed each."""
        return [run for run in self.runs if run.variant == variant]

    def correct(self, variant: str) -> NDArray[np.bool_]:
        """Which test images each seed's model gets correct, shape (S, N)."""
        return np.stack([run.predicted == self.test_labels for run in self.runs_of(variant)])


def read_results(root: Path, params: Params) -> Results:
    """Read the runs that `params` names (never what else lies in the folders), and the data they were made from.

    Raises:
        DataError: a file is missing, lacks a column or a key, or contradicts another one.
    """
    manifest = tuple(read_manifest(root / paths.MANIFEST))
    table = _read_splits(root / paths.SPLITS, manifest)
    splits = dict(zip(table.paths, table.splits, strict=True))
    label_of = dict(zip(table.paths, table.labels, strict=True))
    classes = tuple(sorted(set(label_of.values())))
    test_paths = tuple(path for path, split in splits.items() if split == "test")
    test_labels = {path: label_of[path] for path in test_paths}
    return Results(
        classes=classes,
        manifest=manifest,
        splits=splits,
        given_splits=table.given,
        test_paths=test_paths,
        test_labels=np.array([classes.index(label) for label in test_labels.values()]),
        test_groups=_number_groups(manifest, test_paths),
        runs=tuple(
            _read_run(root, cell, params=params, labels=test_labels, classes=classes)
            for cell in paths.all_cells(params)
        ),
        embed=_read_embed(root, params),
        learning_curve=read_learning_curve(root / paths.LEARNING_CURVE),
        checked_labels=read_label_issues(root / paths.LABEL_ISSUES),
        external=tuple(
            _read_external(root, external, cells=paths.all_cells(params), classes=classes)
            for external in map(paths.ExternalSet, params.evaluate.external)
        ),
        corrupted=tuple(
            _read_corrupted(root, test, params=params, labels=test_labels, classes=classes)
            for test in paths.all_corrupted_tests(params)
        ),
    )


def _read_splits(path: Path, manifest: Sequence[Row]) -> SplitTable:
    """The images that are in a split; they must be those of the manifest."""
    kept = {row.path: row.label for row in manifest if row.kept}
    table = read_splits(path)
    for image, label in zip(table.paths, table.labels, strict=True):
        if kept.get(image) != label:
            raise DataError(f"{path}: {image!r} is not kept as {label!r} in manifest.csv; run `dvc repro`")
    if "test" not in table.splits:
        raise DataError(f"{path} has no test image; raise split.test_fraction or name some in split.test_list")
    return table


def _number_groups(manifest: Sequence[Row], paths: Sequence[str]) -> Integers:
    """A number for each image, shape (N,), shared by the images of one duplicate group."""
    group_of = {row.path: row.duplicate_group or row.path for row in manifest}
    return np.unique([group_of[path] for path in paths], return_inverse=True)[1]


def _require_trained_with(params: Params, *, card: ModelCard, cell: paths.Cell) -> None:
    then_and_now = {
        "training": (card.training, params.training),
        "backbone": (card.backbone, params.backbone),
        "clean": (card.storage, params.clean.storage),
        # An earlier release used all cores, and did not say so.
        "compute.threads": (card.threads or params.compute.threads, params.compute.threads),
        "split.val": (card.val, params.split.val),
        "split.train_fraction": (card.train_fraction, params.split.train_fraction),
        f"variants.{cell.variant}": (
            [candidate.phases for candidate in card.candidates],
            list_candidates(params.variants[cell.variant]),
        ),
    }
    _require_same(then_and_now, done=f"{cell} was trained", stage=f"train@{cell}")


def _require_same(then_and_now: Mapping[str, tuple[object, object]], *, done: str, stage: str) -> None:
    """Raise DataError if a parameter of a stage is not what it was when the stage ran.

    DVC notes the parameters when a stage ends: one that was edited meanwhile would go unnoticed.
    """
    for knob, (then, now) in then_and_now.items():
        if then != now:
            raise DataError(
                f"{done} with another {knob} than params.yaml has, which was edited meanwhile; run "
                f"`dvc repro --force --single-item {stage}`, and then the same command"
            )


def _read_embed(root: Path, params: Params) -> EmbedCost:
    path = root / paths.EMBED_COST
    cost = read_embed_cost(path)
    then_and_now = {"embed.views": (cost.views, params.embed.views)}
    _require_same(then_and_now, done=f"{path} was written", stage="embed")
    return cost


def _read_run(root: Path, cell: paths.Cell, *, params: Params, labels: dict[str, str], classes: tuple[str, ...]) -> Run:
    metrics_path, predictions_path = root / cell.metrics, root / cell.predictions
    metrics = read_metrics(metrics_path)
    if set(metrics.recall) != set(classes):
        raise DataError(f"{metrics_path} has the recall of other classes than data/splits.csv; run `dvc repro`")
    probabilities, predicted = _read_predictions(predictions_path, labels=labels, classes=classes)
    _require_accuracy(predicted, labels, classes=classes, said=metrics.test, places=(metrics_path, predictions_path))
    card, history = read_model_card(root / cell.model), read_history(root / cell.history)
    _require_trained_with(params, card=card, cell=cell)
    kept = history.epochs[history.best]
    if (kept.phase, kept.epoch) != (card.best.phase, card.best.epoch):
        raise DataError(
            f"{root / cell.history} says that epoch {kept.epoch} of phase {kept.phase + 1} was kept, but the model "
            f"card in {root / cell.model} says epoch {card.best.epoch} of phase {card.best.phase + 1}; run `dvc repro`"
        )
    return Run(
        variant=cell.variant,
        seed=cell.seed,
        card=card,
        metrics=metrics,
        cost=read_train_cost(root / cell.cost),
        history=history,
        probabilities=probabilities,
        predicted=predicted,
    )


def _read_external(
    root: Path, external: paths.ExternalSet, *, cells: Sequence[paths.Cell], classes: tuple[str, ...]
) -> ExternalResults:
    manifest = tuple(read_manifest(root / external.manifest))
    labels = {row.path: row.label for row in manifest if row.kept}
    runs = []
    for cell in cells:
        metrics, predictions = root / external.metrics(cell), root / external.predictions(cell)
        scores = read_external_metrics(metrics).external
        _, predicted = _read_predictions(
            predictions, labels=labels, classes=classes, listed=external.manifest, stage="evaluate_external"
        )
        _require_accuracy(predicted, labels, classes=classes, said=scores, places=(metrics, predictions))
        runs.append(ExternalRun(variant=cell.variant, scores=scores, predicted=predicted))
    return ExternalResults(
        name=external.name,
        manifest=manifest,
        labels=np.array([classes.index(label) for label in labels.values()]),
        groups=_number_groups(manifest, list(labels)),
        runs=tuple(runs),
    )


def _read_corrupted(
    root: Path, test: paths.CorruptedTest, *, params: Params, labels: dict[str, str], classes: tuple[str, ...]
) -> CorruptedResults:
    correct: dict[str, list[NDArray[np.bool_]]] = {}
    for cell in paths.all_cells(params):
        metrics, predictions = root / test.metrics(cell), root / test.predictions(cell)
        found = read_corrupted_predictions(predictions, classes=classes)
        order = _order_as(labels, found.paths, found.labels, place=predictions, listed=paths.SPLITS)
        true = np.array([classes.index(label) for label in labels.values()])
        correct.setdefault(cell.variant, []).append(found.predicted[order] == true[:, None])
        said, accuracy = read_corrupted_metrics(metrics).accuracy, float(correct[cell.variant][-1].mean())
        _require_equal(accuracy, said, places=(metrics, predictions))
    return CorruptedResults(corruption=test.corruption, correct={name: np.stack(of) for name, of in correct.items()})


def _require_accuracy(
    predicted: Integers, labels: dict[str, str], *, classes: tuple[str, ...], said: ScoresOnTest, places: Sequence[Path]
) -> None:
    """Raise DataError if the accuracy that the first of `places` says is not that of the predictions in the second."""
    accuracy = np.mean([classes[p] == label for p, label in zip(predicted, labels.values(), strict=True)])
    _require_equal(float(accuracy), said.accuracy, places=places)


def _require_equal(accuracy: float, said: float, *, places: Sequence[Path]) -> None:
    if abs(accuracy - said) > 1e-6:
        raise DataError(
            f"{places[0]} says test accuracy {said:.4f}, but {places[1]} gives {accuracy:.4f}; run `dvc repro`"
        )


def _read_predictions(
    path: Path,
    *,
    labels: dict[str, str],
    classes: tuple[str, ...],
    listed: Path = paths.SPLITS,
    stage: str = "evaluate",
) -> tuple[Floats, Integers]:
    """Probabilities (N, C) and predicted classes (N,) of the test images, in the order of `labels` and `classes`.

    `listed` is the file that says which images these are, and `stage` is what wrote `path`.
    """
    found = read_predictions(path, classes=classes, stage=stage)
    order = _order_as(labels, found.paths, found.labels, place=path, listed=listed)
    return found.probabilities[order], found.predicted[order]


def _order_as(
    labels: dict[str, str], images: Sequence[str], said: Sequence[str], *, place: Path, listed: Path
) -> list[int]:
    """Where each image of `labels` stands among those of the file `place`; DataError if these are not the same."""
    if dict(zip(images, said, strict=True)) != labels or len(images) != len(labels):
        raise DataError(f"{place}: these are not the {len(labels)} test images of {listed}; run `dvc repro`")
    row_of = {image: row for row, image in enumerate(images)}
    return [row_of[image] for image in labels]
