"""What MLflow should show, made from DVC's outputs alone: so a run can be made now, or again at any later time."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thaw.data.splits_csv import read_splits
from thaw.evaluation.metrics_json import read_external_metrics, read_metrics
from thaw.evaluation.significance import accuracy_interval
from thaw.network import model_card
from thaw.network.model_card import ModelCard, read_model_card
from thaw.network.model_folder import TENSORS
from thaw.params import Params, list_candidates
from thaw.paths import (
    COMPARISON_HTML,
    COMPARISON_JSON,
    COMPARISON_MD,
    FIGURES,
    IMAGES,
    SPLITS,
    SUMMARY,
    Cell,
    ExternalSet,
    all_cells,
)
from thaw.tracking.parameters import flatten, recipe_parameters, upstream_parameters
from thaw.training.cost_json import TrainCost, read_train_cost
from thaw.training.history_csv import Epoch, read_history
from thaw.training.notes import Training, describe_phases, describe_training
from thaw.training.provenance import IMAGES_MD5
from thaw.utils.dvc_lock import Stages, hashes
from thaw.utils.records import read_rows
from thaw.utils.words import count, points

CURVES = ("val_accuracy", "val_loss", "train_accuracy", "train_loss", "lr", "penalty", "phase")
"""In the order in which a run lists them; MLflow's page that compares runs opens with the first."""


class Point(NamedTuple):
    """One point of a curve."""

    key: str
    value: float
    at_ms: int
    step: int
    """Counted from 1, over all phases."""


class Dataset(NamedTuple):
    """What was trained on."""

    name: str
    digest: str
    """DVC's MD5 of images.zip."""

    source: str
    """JSON."""

    profile: str
    """JSON: classes and images of each split."""


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """All that one run should show."""

    name: str
    digest: str
    """Of the outputs that it shows: there is one run for each."""

    started_ms: int
    ended_ms: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    curves: Sequence[Point]
    metrics: Mapping[str, float]
    """Single numbers."""

    artifacts: Mapping[str, Sequence[Path]]
    """Folder -> files."""

    dataset: Dataset | None


def cell_digest(cell: Cell) -> str:
    """The hash of what training made of a cell."""
    return sha256([cell.model / model_card.NAME, cell.model / TENSORS, cell.history])


def is_trained(cell: Cell) -> bool:
    """Whether all of training's files are there."""
    return all(path.exists() for path in (cell.cost, cell.history, cell.model / model_card.NAME))


def cell_content(
    cell: Cell,
    *,
    stages: Stages,
    compute: Mapping[str, Any] | None = None,
    evaluated: bool = False,
    external: Sequence[ExternalSet] = (),
    report: Mapping[str, Any] | None = None,
) -> RunContent:
    """What MLflow should show of a cell.

    Args:
        cell: trained.
        stages: of dvc.lock.
        compute: the section of params.yaml, of a training that has just ended; None: dvc.lock knows.
        evaluated: whether its metrics are of this model, and are shown.
        external: the external test sets of which the same holds.
        report: comparison.json, where it is of this model: then its figures and the verdict are shown.

    Raises:
        DataError: a file is missing or is something else.
    """
    card, cost, history = read_model_card(cell.model), read_train_cost(cell.cost), read_history(cell.history)
    started_ms, ended_ms = span_ms(cost)
    metrics = {
        "cost_train_tflop": card.compute.flops / 1e12,
        "temperature": card.temperature,
        **{f"system/{name}": getattr(cost, name) for name in ("train_seconds", "images_per_second", "peak_memory_mib")},
    }
    artifacts: dict[str, list[Path]] = {"model": sorted(cell.model.iterdir()), "history": [cell.history]}
    sentences = [f"{describe_training(Training(card=card, history=history))}.", _describe_backbone(card)]
    if evaluated:
        metrics |= _test_metrics(cell)
        artifacts["predictions"] = [cell.predictions]
        low, high = points(metrics["test_accuracy_ci95_low"]), points(metrics["test_accuracy_ci95_high"])
        sentences.append(
            f"Test accuracy {points(metrics['test_accuracy'])} % (95 % interval of this model {low} to {high})."
        )
    for name in external:
        scores = read_external_metrics(name.metrics(cell)).external.model_dump()
        metrics |= {f"external_{name}_{key}": value for key, value in scores.items()}
        artifacts[f"predictions/{name}"] = [name.predictions(cell)]
    if report is not None:
        artifacts["figures"] = sorted(FIGURES.glob(f"{cell}-*.png"))
        sentences.append(report["verdict"][1])
    upstream = upstream_parameters(stages, cell=cell, just_trained=compute is not None)
    used = compute or stages.get(f"train@{cell}", {}).get("params", {}).get("params.yaml", {}).get("compute")
    return RunContent(
        name=str(cell),
        digest=cell_digest(cell),
        started_ms=started_ms,
        ended_ms=ended_ms,
        params={**upstream, **card_parameters(card, compute=used)},
        tags={"variant": cell.variant, "seed": str(cell.seed), **cost.provenance, NOTE: "\n\n".join(sentences)},
        curves=curve_points(history.epochs, _spread(started_ms, ended_ms, len(history.epochs))),
        metrics=metrics,
        artifacts=artifacts,
        dataset=_describe_dataset(upstream, cost.provenance.get(IMAGES_MD5)),
    )


NOTE = "mlflow.note.content"
"""MLflow's own tag for the description of a run, in Markdown."""


def live_content(
    cell: Cell, *, params: Params, stages: Stages, candidate: int, provenance: Mapping[str, str]
) -> RunContent:
    """What is known of a candidate before it is trained: a part of what `cell_content` says in the end."""
    candidates = list_candidates(params.variants[cell.variant])
    phases = candidates[candidate]
    upstream = upstream_parameters(stages, cell=cell, just_trained=True)
    recipe = recipe_parameters(
        cell=cell,
        backbone=params.backbone,
        storage=params.clean.storage,
        val=params.split.val,
        train_fraction=params.split.train_fraction,
        training=params.training,
        phases=phases,
        compute=params.compute.model_dump(),
    )
    of = f" candidate {candidate + 1} of {len(candidates)}" if len(candidates) > 1 else ""
    return RunContent(
        name=f"{cell}{of}",
        digest="",
        started_ms=0,
        ended_ms=0,
        params={**upstream, **recipe},
        tags={
            "variant": cell.variant,
            "seed": str(cell.seed),
            **provenance,
            NOTE: f"{cell}{of} is being trained: {describe_phases(phases)}.",
        },
        curves=(),
        metrics={},
        artifacts={},
        dataset=_describe_dataset(upstream, provenance.get(IMAGES_MD5)),
    )


def winner(cell: Cell) -> int:
    """The candidate that became the model, counted from 0."""
    card = read_model_card(cell.model)
    return next((n for n, candidate in enumerate(card.candidates) if candidate.phases == card.phases), 0)


def pipeline_content(params: Params, *, contents: Mapping[Cell, RunContent], report: Mapping[str, Any]) -> RunContent:
    """What the parent of all cells shows: the comparison, its figures, and the report.

    Args:
        params: what the report is on.
        contents: of all cells.
        report: comparison.json.
    """
    first = all_cells(params)[0]
    digest = hashlib.sha256(" ".join(f"{cell} {shown.digest}" for cell, shown in contents.items()).encode())
    variants = {row["variant"]: row for row in report["variants"]}
    best = variants[report["recommended"]["variant"]]
    metrics = {**_variant_metrics(best)}
    for name, row in variants.items():
        metrics |= {f"{name}/{key}": value for key, value in _variant_metrics(row).items()}
    user = {key: value for key, value in contents[first].tags.items() if key.startswith(("mlflow.user", "mlflow.sou"))}
    return RunContent(
        name=f"pipeline {digest.hexdigest()[:7]}",
        digest=digest.hexdigest(),
        started_ms=min(shown.started_ms for shown in contents.values()),
        ended_ms=max(shown.ended_ms for shown in contents.values()),
        params={
            **{key: value for key, value in contents[first].params.items() if not key.startswith(_OF_A_CELL)},
            "variants": ", ".join(params.variants),
            "seeds": ", ".join(map(str, params.seeds)),
        },
        tags={
            **user,
            "mlflow.source.name": "stages/report.py",
            "recommended": report["recommended"]["variant"],
            NOTE: "\n".join([report["verdict"][1], "", *(f"- {sentence}" for sentence in report["verdict"][2:])]),
        },
        curves=(),
        metrics=metrics,
        artifacts={
            "report": [COMPARISON_HTML, COMPARISON_MD, COMPARISON_JSON, SUMMARY],
            "figures": sorted(path for path in FIGURES.glob("*.png") if not path.name.startswith(_names(contents))),
        },
        dataset=contents[first].dataset,
    )


_OF_A_CELL = ("variant", "seed", "phases.", "trainable_parameters")


def _names(contents: Iterable[Cell]) -> tuple[str, ...]:
    return tuple(f"{cell}-" for cell in contents)


def _variant_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    low, high = row["accuracy_ci95"]
    return {
        "test_accuracy": row["accuracy_mean"],
        "test_accuracy_ci95_low": low,
        "test_accuracy_ci95_high": high,
        "cost_tflop": row["cost"]["flops"] / 1e12,
    }


def card_parameters(card: ModelCard, *, compute: Mapping[str, Any] | None) -> dict[str, str]:
    """What was chosen, as opposed to what came out."""
    return recipe_parameters(
        cell=Cell(card.variant, card.seed),
        backbone=card.backbone,
        storage=card.storage,
        val=card.val,
        train_fraction=card.train_fraction,
        training=card.training,
        phases=card.phases,
        compute=compute or {"threads": card.threads},
    ) | {"trainable_parameters": str(card.trainable_parameters)}


def curve_points(epochs: Sequence[Epoch], at_ms: Sequence[int], *, first: int = 0) -> list[Point]:
    """Curves over one axis of steps; `phase` marks where a phase begins.

    Args:
        epochs: of a history, from its row `first` on, counted from 0.
        at_ms: when each ended.
        first: see `epochs`.
    """
    return [
        Point(name, float(value), at, step)
        for step, (epoch, at) in enumerate(zip(epochs, at_ms, strict=True), start=first + 1)
        for name in CURVES
        # A solved phase has no rate, and the others no penalty.
        if (value := epoch.phase + 1 if name == "phase" else getattr(epoch, name)) is not None
    ]


def span_ms(cost: TrainCost) -> tuple[int, int]:
    """When a training began and ended, in milliseconds since 1970."""
    started_ms = round(cost.started_at_unix_s * 1000)
    return started_ms, started_ms + round(cost.train_seconds * 1000)


def _spread(started_ms: int, ended_ms: int, number: int) -> list[int]:
    """When each epoch ended is not kept, since it differs from run to run; evenly, the curves look right by time."""
    return [round(started_ms + step * (ended_ms - started_ms) / number) for step in range(1, number + 1)]


def _test_metrics(cell: Cell) -> dict[str, float]:
    metrics = read_metrics(cell.metrics)
    scores = metrics.model_dump(include={"test", "uncalibrated", "backbone_tensors_moved"})
    rows, splits = read_rows(cell.predictions, ("path", "label", "predicted"), stage="evaluate"), read_splits(SPLITS)
    group_of = dict(zip(splits.paths, splits.groups, strict=True))
    groups = np.unique([group_of.get(row["path"], row["path"]) for row in rows], return_inverse=True)[1]  # (N,)
    correct = np.array([row["label"] == row["predicted"] for row in rows])  # (N,)
    # As in the report: copies of an image count as one.
    low, high = accuracy_interval(correct, groups=groups)
    return {
        **{key.replace(".", "_"): value for key, value in flatten(scores)},
        "test_accuracy_ci95_low": low,
        "test_accuracy_ci95_high": high,
        # The curves have these names without `kept`.
        **{f"kept_val_{key}": value for key, value in metrics.val.model_dump().items()},
    }


def _describe_backbone(card: ModelCard) -> str:
    backbone = card.backbone
    classes = count(len(card.classes), "class", "classes")
    return f"Backbone {backbone.name} ({backbone.weights} weights) at {backbone.image_size_px} px; {classes}."


def _describe_dataset(parameters: Mapping[str, str], images_md5: str | None) -> Dataset | None:
    """None where DVC does not know the images."""
    if images_md5 is None or not SPLITS.exists():
        return None
    source = {key: value for key, value in parameters.items() if key.startswith("data.") and value != "None"}
    splits = read_splits(SPLITS)
    profile = {
        "classes": list(splits.classes),
        "images": {name: splits.splits.count(name) for name in ("train", "val", "test")},
    }
    return Dataset(parameters.get("data.source", IMAGES.name), images_md5, json.dumps(source), json.dumps(profile))


def sha256(files: Iterable[Path]) -> str:
    """One hash over the contents of several files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def is_evaluated(cell: Cell, stages: Stages) -> bool:
    """Whether the metrics of `cell` are those of its present model: DVC knows which model was evaluated."""
    return cell.metrics.exists() and _used_model(cell, f"evaluate@{cell}", stages)


def is_evaluated_on(external: ExternalSet, cell: Cell, stages: Stages) -> bool:
    """The same of its metrics on an external test set."""
    return external.metrics(cell).exists() and _used_model(cell, f"evaluate_external@{external}-{cell}", stages)


def _used_model(cell: Cell, stage: str, stages: Stages) -> bool:
    """Whether a stage last ran with the model that training made."""
    model = cell.model.as_posix()
    made = hashes(stages.get(f"train@{cell}", {}).get("outs")).get(model)
    return made is not None and made == hashes(stages.get(stage, {}).get("deps")).get(model)


def reported_cells(report: Mapping[str, Any] | None, cells: Iterable[Cell]) -> list[Cell]:
    """The cells whose present scores are those in comparison.json: the report is of these models."""
    rows = {(row["variant"], row["seed"]): row["test"] for row in (report or {}).get("runs", [])}
    return [
        cell
        for cell in cells
        if tuple(cell) in rows and cell.metrics.exists() and read_metrics(cell.metrics).test.model_dump() == rows[cell]
    ]
