"""Invented projects for the tests of report/: all that the stages write, with mistakes where a test wants them."""

import io
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markupsafe import Markup
from PIL import Image

from conftest import ROOT
from thaw import paths
from thaw.data.manifest import Row, write_manifest
from thaw.data.splits_csv import read_splits, write_splits
from thaw.diagnosis.label_issues_csv import CheckedLabel, write_label_issues
from thaw.diagnosis.learning_curve_csv import CurvePoint, write_learning_curve
from thaw.evaluation.corrupted_csv import write_corrupted_predictions
from thaw.evaluation.metrics_json import (
    CorruptedMetrics,
    ExternalMetrics,
    Metrics,
    ScoresOnTest,
    UncalibratedScores,
    ValScores,
    write_corrupted_metrics,
    write_external_metrics,
    write_metrics,
)
from thaw.evaluation.predictions_csv import write_predictions
from thaw.network.model_card import BestEpoch, Candidate, Compute, ModelCard, write_model_card
from thaw.params import AnyPhase, Params, Phase, list_candidates
from thaw.paths import Cell
from thaw.report import build
from thaw.report.build import ComparisonFile, write_report
from thaw.report.results import read_results
from thaw.report.summarise import build_comparison
from thaw.report.verdict import write_verdict
from thaw.training.cost_json import EmbedCost, PhaseCost, TrainCost, write_cost
from thaw.training.history_csv import Epoch, History, write_history

PENALTIES = (1.0, 0.1, 0.01)
"""The path of every solved phase."""

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "frozen": [{"train": "head"}],
    "fine_tuned": [{"train": "all", "epochs": 4, "lr": 0.0001}],
    "two_stage": [{"train": "head"}, {"train": "all", "epochs": 3, "lr": 0.0001, "head_lr": 0.01}],
}

ONLY_FROZEN = {"frozen": VARIANTS["frozen"]}

ALIKE = {
    "frozen": [[0, 5], [5], [5, 7]],
    "fine_tuned": [[0, 9], [9, 5], [5]],
    "two_stage": [[5], [5, 8], [7]],
}
"""Mistakes of three variants that no statistics can tell apart: for each seed, places in the test split."""

RUN_IDS = {f"{variant}-{seed}": f"{variant}0{seed}" for variant in ALIKE for seed in range(3)}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is special about a run; the rest is invented."""

    best: tuple[int, int] | None = None
    """Phase, from 0, and epoch, from 1; None: the second epoch of the last phase."""

    winner: int = 0
    """Which candidate has the lowest val loss."""

    seconds: float | None = None
    """None: 2 for frozen and 40 for others."""


@dataclass(frozen=True, kw_only=True)
class _TestSplit:
    classes: tuple[str, ...]
    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def make_params(**changes: Any) -> Params:
    """params.yaml with some sections changed: `make_params(seeds=[0], data={"source": "microsoft"})`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values |= {"variants": VARIANTS, "seeds": [0, 1, 2]}
    for key, change in changes.items():
        values[key] = {**values[key], **change} if isinstance(change, dict) and key != "variants" else change
    return Params.model_validate(values)


def make_project(
    root: Path,
    params: Params,
    *,
    mistakes: Mapping[str, Sequence[Sequence[int]]],
    classes: Sequence[str] = ("Cat", "Dog"),
    per_class: int = 80,
    trainings: Mapping[str, Training] | None = None,
) -> None:
    """Write a whole project.

    Args:
        root: where.
        params: its variants and seeds are those of the runs.
        mistakes: for each variant and seed, which places in the test split are misclassified.
        classes: their names.
        per_class: images of each class; half of them are test.
        trainings: "{variant}-{seed}" -> what is special about that run.
    """
    test = make_data(root, classes, per_class=per_class)
    for cell in paths.all_cells(params):
        wrong = mistakes[cell.variant][params.seeds.index(cell.seed)]
        make_run(root, cell, params, test=test, wrong=wrong, training=(trainings or {}).get(str(cell), Training()))
    cost = EmbedCost(
        images=2 * per_class,
        seconds=6.0,
        images_per_second=80.0,
        views=params.embed.views,
        flops=2 * per_class * 10**9,
        peak_memory_mib=600.0,
        device="cpu",
        threads=2,
        processes=1,
    )
    write_cost(root / paths.EMBED_COST, cost)
    write_learning_curve(root / paths.LEARNING_CURVE, make_curve(floor=0.05, scale=1.0))
    write_label_issues(root / paths.LABEL_ISSUES, make_label_issues(root, classes))


def make_label_issues(root: Path, classes: Sequence[str]) -> list[CheckedLabel]:
    """Of all images that are not test; the first and the fourth are probably labelled wrongly."""
    splits = read_splits(root / paths.SPLITS)
    checked: list[CheckedLabel] = []
    for path, label, split in zip(splits.paths, splits.labels, splits.splits, strict=True):
        if split == "test":
            continue
        rank = {0: 2, 3: 1}.get(len(checked))
        likely = label if rank is None else next(name for name in classes if name != label)
        p_label = 0.9 if rank is None else 0.05
        checked.append(
            CheckedLabel(path=path, label=label, likely_label=likely, p_label=p_label, p_likely_label=0.9, rank=rank)
        )
    return checked


def make_curve(*, floor: float, scale: float) -> list[CurvePoint]:
    """Five folds whose error is floor + scale / sqrt(images), give or take a few images of 1,000."""
    return [
        CurvePoint(
            fold=fold,
            share=share,
            images=round(400 * share),
            tested=1000,
            correct=round(1000 * (1 - floor - scale * round(400 * share) ** -0.5)) + (fold - 2) * (1 + place % 2),
        )
        for fold in range(5)
        for place, share in enumerate((0.05, 0.1, 0.2, 0.5, 1.0))
    ]


@cache
def _write_once(folder: Path) -> Path:
    root, params = folder / "written_report", make_params()
    make_project(root, params, mistakes=ALIKE)
    write_report(root, params=params, run_ids=RUN_IDS)
    return root


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two classes, three variants and three seeds, with its report.

    All modules share it: a test that changes something does so in a copy.
    """
    return _write_once(tmp_path_factory.getbasetemp())


def write_pages(root: Path, params: Params) -> None:
    """Write the report for a test of its words: its pictures, which take most of the time, are empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "to_png", lambda _figure: b"")
        patch.setattr(build, "to_svg", lambda _figure, _name: Markup())
        patch.setattr(build, "draw_sheet", lambda _groups: b"")
        write_report(root, params=params, run_ids={})


def summarise(root: Path, params: Params) -> ComparisonFile:
    """What comparison.json of a project would hold."""
    comparison = build_comparison(read_results(root, params), params=params, run_ids={})
    return ComparisonFile(**dict(comparison), verdict=write_verdict(comparison).sentences)


def draw_image(number: int, *, side_px: int = 64) -> bytes:
    """A JPEG of two colours that depend on the number."""
    rng = np.random.default_rng(number)
    pixels = np.broadcast_to(rng.integers(0, 255, 3), (side_px, side_px + 8, 3)).astype(np.uint8).copy()
    pixels[side_px // 4 : side_px // 2] = rng.integers(0, 255, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def manifest_row(path: str, **changes: Any) -> Row:
    """A row of a sound image of 72 x 64 pixels, or with changes of something else."""
    facts: dict[str, Any] = {
        "path": path,
        "label": path.split("/")[-2],
        "bytes": 1000,
        "sha256": "0" * 64,
        "width_px": 72,
        "height_px": 64,
        "mode": "RGB",
        "format": "JPEG",
        "exif_orientation": 1,
        "kept": True,
        "pixels_sha256": "1" * 64,
    }
    return Row(**(facts | changes))


def make_data(root: Path, classes: Sequence[str], *, per_class: int) -> _TestSplit:
    """Write manifest, images.zip and splits; half of the images are test."""
    first, second = classes[:2]
    near = {"duplicate_group": f"PetImages/{first}/0.jpg", "duplicate_kind": "near"}
    conflict = {"duplicate_group": f"PetImages/{first}/copy.jpg", "duplicate_kind": "exact", "reason": "label conflict"}
    special: dict[str, dict[str, Any]] = {
        f"PetImages/{first}/0.jpg": near,
        f"PetImages/{first}/1.jpg": near,
        f"PetImages/{first}/2.jpg": {"damage": "damaged scan"},
        f"PetImages/{first}/empty|.jpg": {"kept": False, "reason": "empty file", "width_px": None, "height_px": None},
        f"PetImages/{second}/Thumbs.db": {
            "kept": False, "reason": "not an image", "width_px": None, "height_px": None,
        },
        f"PetImages/{first}/copy.jpg": {"kept": False, **conflict},
        f"PetImages/{second}/copy.jpg": {"kept": False, **conflict},
    }  # fmt: skip
    names = {f"PetImages/{name}/{i}.jpg" for name in classes for i in range(per_class)} | special.keys()
    rows = [manifest_row(path, **special.get(path, {})) for path in sorted(names)]
    write_manifest(root / paths.MANIFEST, rows)
    kept = [row for row in rows if row.kept]
    with zipfile.ZipFile(root / paths.IMAGES, "w") as archive:
        for number, row in enumerate(kept):
            archive.writestr(zipfile.ZipInfo(row.path), draw_image(number))
    with zipfile.ZipFile(root / paths.DROPPED, "w") as archive:
        for row in rows:
            if row.reason == "label conflict":
                archive.writestr(zipfile.ZipInfo(row.path), draw_image(999))
    places = ("test", "train", "test", "val")
    splits = [(row, places[int(Path(row.path).stem) // 2 % 4]) for row in kept]
    write_splits(
        root / paths.SPLITS, [(row.path, row.label, split, row.duplicate_group or row.path) for row, split in splits]
    )
    tested = [row for row, split in splits if split == "test"]
    return _TestSplit(
        classes=tuple(sorted(classes)), paths=[row.path for row in tested], labels=[row.label for row in tested]
    )


def make_external(
    root: Path, params: Params, name: str, *, mistakes: Mapping[str, Sequence[Sequence[int]]], images: int = 80
) -> None:
    """Write an external test set of two classes, and what the runs of `params` say of it.

    Each image is there once, but the first two, which are copies of each other. One more is a copy of a training image.

    Args:
        root: a project by `make_project`.
        params: its parameters.
        name: that of the set.
        mistakes: for each variant and seed, which images, in order, are misclassified.
        images: how many are kept.
    """
    external = paths.ExternalSet(name)
    near = {"duplicate_group": "web/Cat/000.jpg", "duplicate_kind": "near"}
    rows = [
        manifest_row(f"web/{('Cat', 'Dog')[2 * i // images]}/{i:03}.jpg", **(near if i < 2 else {}))
        for i in range(images)
    ]
    leaked = manifest_row("web/Dog/leaked.jpg", kept=False, reason="copy of a training image")
    write_manifest(root / external.manifest, [*rows, leaked])
    test = _TestSplit(classes=("Cat", "Dog"), paths=[row.path for row in rows], labels=[row.label for row in rows])
    for cell in paths.all_cells(params):
        wrong = mistakes[cell.variant][params.seeds.index(cell.seed)]
        _make_predictions(root / external.predictions(cell), test, wrong=wrong)
        right = 1 - len(wrong) / images
        scores = ScoresOnTest(accuracy=right, balanced_accuracy=right, log_loss=0.3, roc_auc=0.97, ece=0.04)
        write_external_metrics(root / external.metrics(cell), ExternalMetrics(external=scores))


def make_corrupted(root: Path, params: Params, *, mistakes: Mapping[str, Sequence[int]]) -> None:
    """Write what the runs of `params` say of test images under each of its corruptions.

    Args:
        root: a project by `make_project`.
        params: its parameters.
        mistakes: for each variant how many of the first images are misclassified at each severity; with each further
            seed one more at the last.
    """
    splits = read_splits(root / paths.SPLITS)
    rows = zip(splits.paths, splits.labels, splits.splits, strict=True)
    names, labels = zip(*(row[:2] for row in rows if row[2] == "test"), strict=True)
    true = np.array([splits.classes.index(label) for label in labels])
    for test in paths.all_corrupted_tests(params):
        for cell in paths.all_cells(params):
            wrong = np.array(mistakes[cell.variant]) + (np.arange(5) == 4) * params.seeds.index(cell.seed)
            missed = np.arange(len(names))[:, None] < wrong  # (N, 5)
            predicted = np.where(missed, (true[:, None] + 1) % len(splits.classes), true[:, None])
            write_corrupted_predictions(
                root / test.predictions(cell), paths=names, labels=labels, predicted=predicted, classes=splits.classes
            )
            metrics = CorruptedMetrics(accuracy=float(1 - missed.mean()), accuracy_by_severity={})
            write_corrupted_metrics(root / test.metrics(cell), metrics)


def make_run(
    root: Path, cell: Cell, params: Params, *, test: _TestSplit, wrong: Sequence[int], training: Training
) -> None:
    """Write one run that gets all test images correct but those at the places `wrong`."""
    tried = list_candidates(params.variants[cell.variant])
    phases = tried[training.winner]
    best = BestEpoch(
        phase=len(phases) - 1 if training.best is None else training.best[0],
        epoch=2 if training.best is None else training.best[1],
    )
    moved = 254 if any(phase.train != "head" for phase in phases) else 0
    _make_predictions(root / cell.predictions, test, wrong=wrong)
    write_history(root / cell.history, _make_history(phases, best=best))
    wrong_labels = Counter(test.labels[i] for i in wrong)
    recall = {label: 1 - wrong_labels[label] / test.labels.count(label) for label in test.classes}
    write_metrics(
        root / cell.metrics,
        Metrics(
            test=ScoresOnTest(
                accuracy=1 - len(wrong) / len(test.paths),
                balanced_accuracy=sum(recall.values()) / len(recall),
                log_loss=0.2,
                roc_auc=0.98,
                ece=0.03,
            ),
            recall=recall,
            uncalibrated=UncalibratedScores(log_loss=0.3, ece=0.05),
            val=ValScores(accuracy=0.9, log_loss=0.25),
            trainable_parameters=3373000 if moved else 2562,
            backbone_tensors=296,
            backbone_parameter_tensors=254,
            backbone_tensors_moved=moved,
            best=best,
        ),
    )
    write_model_card(root / cell.model, _make_card(cell, params, tried=tried, best=best, winner=training.winner))
    seconds = (40.0 if moved else 2.0) if training.seconds is None else training.seconds
    write_cost(root / cell.cost, _make_cost(phases, seconds=seconds))


def _make_predictions(path: Path, test: _TestSplit, *, wrong: Sequence[int]) -> None:
    labels = np.array([test.classes.index(label) for label in test.labels])
    predicted = labels.copy()
    predicted[list(wrong)] = (labels[list(wrong)] + 1) % len(test.classes)
    confidence = 0.7 + 0.25 * (np.arange(len(labels)) % 7) / 7
    probabilities = np.repeat(((1 - confidence) / (len(test.classes) - 1))[:, None], len(test.classes), axis=1)
    probabilities[np.arange(len(labels)), predicted] = confidence
    write_predictions(path, paths=test.paths, labels=labels, probabilities=probabilities, classes=test.classes)


def _make_history(phases: Sequence[AnyPhase], *, best: BestEpoch) -> History:
    kept = {best.phase: best.epoch}
    epochs = [
        Epoch(
            phase=number,
            train=phase.train,
            epoch=epoch,
            lr=phase.lr if isinstance(phase, Phase) else None,
            penalty=None if isinstance(phase, Phase) else PENALTIES[epoch - 1],
            train_loss=0.6 / (epoch + number),
            train_accuracy=1 - 0.4 / (epoch + number),
            # Lowest at the kept epoch, and in other phases at the second.
            val_loss=0.25 + 0.05 * abs(epoch - kept.get(number, 2)) + 0.1 * (number not in kept),
            val_accuracy=1 - 0.5 / (epoch + number),
        )
        for number, phase in enumerate(phases)
        for epoch in range(1, 1 + (phase.epochs if isinstance(phase, Phase) else len(PENALTIES)))
    ]
    places = [(epoch.phase, epoch.epoch) for epoch in epochs]
    return History(epochs=tuple(epochs), best=places.index((best.phase, best.epoch)))


def _make_card(
    cell: Cell, params: Params, *, tried: Sequence[tuple[AnyPhase, ...]], best: BestEpoch, winner: int
) -> ModelCard:
    epochs = sum(phase.epochs for phases in tried for phase in phases if isinstance(phase, Phase))
    return ModelCard(
        classes=("Cat", "Dog"),
        variant=cell.variant,
        seed=cell.seed,
        backbone=params.backbone,
        storage=params.clean.storage,
        val=params.split.val,
        training=params.training,
        phases=tried[winner],
        best=best,
        candidates=tuple(
            Candidate(phases=phases, val_loss=0.25 if number == winner else 0.3, val_accuracy=0.9, best=best)
            for number, phases in enumerate(tried)
        ),
        compute=Compute(flops=10**7 + epochs * 25 * 10**10, images_seen=40 * epochs),
        trainable_parameters=2562,
        threads=params.compute.threads,
        temperature=1.25,
    )


def _make_cost(phases: Sequence[AnyPhase], *, seconds: float) -> TrainCost:
    return TrainCost(
        started_at_unix_s=1.7e9,
        provenance={},
        train_seconds=seconds,
        images_per_second=80.0 if any(phase.train != "head" for phase in phases) else 0.0,
        peak_memory_mib=700.0,
        device="cpu",
        threads=2,
        processes=1,
        phases=tuple(PhaseCost(train=phase.train, epochs=4, seconds=1.0, images_per_second=1.0) for phase in phases),
    )
