"""MLflow as a mirror of DVC's outputs: a run is made from the files of a cell, now or at any later time.

The only importer of mlflow. A run is found by the hash of the files that it shows, so that mirroring twice changes
nothing, and an empty MLflow is filled again by `thaw sync`.
"""

import csv
import hashlib
import logging
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from thaw.atomic import read_json
from thaw.layout import FIGURES, PICTURES, Cell
from thaw.params import dotted

_OUTPUTS, _METRICS, _FIGURES = "thaw.outputs_sha256", "thaw.metrics_sha256", "thaw.figures_sha256"

log = logging.getLogger(__name__)


def mirror_cell(cell: Cell, *, experiment: str) -> str | None:
    """Make MLflow show what the files of `cell` hold, as far as they exist, and return the run's id.

    The run is made if there is none; test metrics and figures are added once there are any. Without a reachable server
    the work of a stage is not lost: a warning is logged, None is returned, and `thaw sync` makes up for it.
    """
    try:
        client = _connect()
        run = _find_or_create_run(client, cell, experiment=experiment)
        _mirror_evaluation(client, run, cell)
        _mirror_figures(client, run, cell)
    except MlflowException as error:
        reason = " ".join(str(error).split())[:200]
        log.warning("MLflow does not show %s (%s); run `thaw sync` once it answers", cell, reason)
        return None
    return str(run.info.run_id)


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or a SQLite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def _connect() -> MlflowClient:
    # The defaults hang for four minutes when the server is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    lock = Path(".thaw/mlflow.lock")
    lock.parent.mkdir(exist_ok=True)
    # Processes that open a fresh SQLite store at once break it for good.
    with FileLock(lock):
        client = MlflowClient(tracking_uri())
        client.search_experiments(max_results=1)
    return client


def _find_or_create_run(client: MlflowClient, cell: Cell, *, experiment: str) -> Run:
    outputs = [cell.model / "model.json", cell.model / "model.safetensors", cell.history]
    digest = _sha256(outputs)
    experiment_id = _experiment_id(client, experiment)
    found = client.search_runs([experiment_id], f"tags.`{_OUTPUTS}` = '{digest}'", max_results=1)
    if found:
        return found[0]
    facts, cost = read_json(cell.model / "model.json"), read_json(cell.cost)
    started_ms = round(cost["started_at_unix_s"] * 1000)
    ended_ms = started_ms + round(cost["train_seconds"] * 1000)
    tags = {"variant": cell.variant, "seed": str(cell.seed), **_provenance()}
    run = client.create_run(experiment_id, start_time=started_ms, run_name=str(cell), tags=tags)
    client.log_batch(
        run.info.run_id,
        params=[Param(key, str(value)) for key, value in _flatten(_parameters(facts))],
        metrics=[*_history_metrics(cell.history, started_ms, ended_ms), *_cost_metrics(cost, ended_ms)],
    )
    client.log_artifacts(run.info.run_id, str(cell.model), "model")
    client.log_artifact(run.info.run_id, str(cell.history), "history")
    # Last: a run that was cut off above is not found by its hash, and is made again.
    client.set_tag(run.info.run_id, _OUTPUTS, digest)
    client.set_terminated(run.info.run_id, "FINISHED", ended_ms)
    return client.get_run(run.info.run_id)


def _mirror_evaluation(client: MlflowClient, run: Run, cell: Cell) -> None:
    if not cell.metrics.exists() or run.data.tags.get(_METRICS) == (digest := _sha256([cell.metrics])):
        return
    metrics = read_json(cell.metrics)
    values = {
        "test": metrics["test"],
        "val": metrics["val"],
        "backbone_tensors_moved": metrics["backbone_tensors_moved"],
    }
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key.replace(".", "_"), value, run.info.end_time, 0) for key, value in _flatten(values)],
    )
    client.log_artifact(run.info.run_id, str(cell.predictions), "predictions")
    client.set_tag(run.info.run_id, _METRICS, digest)


def _mirror_figures(client: MlflowClient, run: Run, cell: Cell) -> None:
    figures = sorted(FIGURES.glob(f"{cell}-*.png"))
    if not figures or run.data.tags.get(_FIGURES) == (digest := _sha256(figures)):
        return
    for figure in figures:
        client.log_artifact(run.info.run_id, str(figure), "figures")
    client.set_tag(run.info.run_id, _FIGURES, digest)


def _experiment_id(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A server knows where it keeps artifacts; for a local store they belong beside it, wherever MLflow is started.
    local = tracking_uri().startswith("sqlite:")
    return str(client.create_experiment(name, Path("mlartifacts").resolve().as_uri() if local else None))


def _parameters(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen, as opposed to what came out."""
    return {key: facts[key] for key in ("variant", "seed", "backbone", "training", "phases", "trainable_parameters")}


def _history_metrics(history: Path, started_ms: int, ended_ms: int) -> list[Metric]:
    with history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
    # When each epoch ended is not kept, since it differs from run to run; spread evenly, the curves look right by time.
    per_epoch_ms = (ended_ms - started_ms) / len(rows)
    return [
        Metric(name, float(row[name]), round(started_ms + step * per_epoch_ms), step)
        for step, row in enumerate(rows, start=1)
        for name in names
    ]


def _cost_metrics(cost: Mapping[str, Any], at_ms: int) -> list[Metric]:
    return [Metric(name, cost[name], at_ms, 0) for name in ("train_seconds", "pictures_per_second", "peak_memory_mib")]


def _provenance() -> dict[str, str]:
    """The commit and the data that a run belongs to."""
    tags = {}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode == 0:
        tags["mlflow.source.git.commit"] = commit.stdout.strip()
    lock = Path("dvc.lock")
    if lock.exists():
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
        for out in stages.get("clean", {}).get("outs", []):
            if out["path"] == PICTURES.as_posix():
                tags["dvc.pictures_md5"] = out["md5"]
    return tags


def _flatten(value: Any, *path: str | int) -> Iterable[tuple[str, Any]]:
    """`{"a": [{"b": 1}]}` -> `("a.0.b", 1)`."""
    children: Iterable[tuple[str | int, Any]]
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    else:
        yield dotted(path), value
        return
    for key, child in children:
        yield from _flatten(child, *path, key)


def _sha256(files: Iterable[Path]) -> str:
    """One hash over the contents of several files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
