"""MLflow as a mirror of DVC's outputs: a run is made from the files of a cell, now or at any later time.

The only importer of mlflow. A run is found by the hash of the files that it shows, so that mirroring twice changes
nothing, and an empty MLflow is filled again by `thaw sync`.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from thaw.errors import one_line
from thaw.evaluation.metrics_json import read_external_metrics, read_metrics
from thaw.network import model_card
from thaw.network.model_card import ModelCard, read_model_card
from thaw.params import dotted, load_params
from thaw.paths import FIGURES, MLFLOW_LOCK, Cell, ExternalSet
from thaw.tracking.mlflow_models import log_model, register_champion
from thaw.training.cost_json import TrainCost, read_train_cost
from thaw.training.history_csv import read_history
from thaw.utils.dvc_lock import locked_stage

_OUTPUTS, _METRICS, _FIGURES = "thaw.outputs_sha256", "thaw.metrics_sha256", "thaw.figures_sha256"
Stage = Literal["train", "evaluate", "report"]
log = logging.getLogger(__name__)


def sync_cell(cell: Cell, *, experiment: str, through: Stage, external: Sequence[ExternalSet] = ()) -> str | None:
    """Make MLflow show what the files of `cell` hold, and return the run's id.

    The run is made if there is none. Only what the stages up to `through` wrote is shown: files of later stages can be
    left from another model. So can metrics on external test sets: only those of `external` are shown. Without a
    reachable server the work of a stage is not lost: a warning is logged, None is returned, and `thaw sync` makes up
    for it.
    """
    try:
        client = _connect()
        run = _find_or_create_run(client, cell, experiment=experiment)
        if through != "train":
            _mirror_evaluation(client, run, cell)
        for external_set in external:
            _mirror_external(client, run, cell, external_set)
        if through == "report":
            _mirror_figures(client, run, cell)
            log_model(client, run.info.run_id, cell, uri=tracking_uri())
    except Exception as error:  # MLflow's stores raise whatever their drivers do; no training is worth losing for it
        reason = one_line(error, most=200)
        log.warning("MLflow does not show %s (%s); run `thaw sync` once it answers", cell, reason)
        return None
    return str(run.info.run_id)


def sync_champion(cell: Cell, run_id: str | None) -> None:
    """Register the model of `cell`, which the report recommends, if MLflow shows its run and its model."""
    try:
        client = _connect()
        model_id = run_id and log_model(client, run_id, cell, uri=tracking_uri())
        if run_id and model_id:
            register_champion(client, model_id, run_id=run_id, cell=cell)
    except Exception as error:  # as above
        log.warning("MLflow does not register %s (%s); run `thaw sync` once it answers", cell, one_line(error))


def is_evaluated(cell: Cell) -> bool:
    """Whether the metrics of `cell` are those of its present model: DVC knows which model was evaluated."""
    return _used_model(cell, f"evaluate@{cell}")


def is_evaluated_on(external: ExternalSet, cell: Cell) -> bool:
    """The same of its metrics on an external test set."""
    return _used_model(cell, f"evaluate_external@{external}-{cell}")


def _used_model(cell: Cell, stage: str) -> bool:
    """Whether a stage last ran with the model that training made."""
    outs = {out["path"]: out["md5"] for out in locked_stage(f"train@{cell}").get("outs", [])}
    deps = {dep["path"]: dep["md5"] for dep in locked_stage(stage).get("deps", [])}
    model = cell.model.as_posix()
    return model in outs and outs[model] == deps.get(model)


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or a SQLite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def _connect() -> MlflowClient:
    # The defaults hang for four minutes when the server is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    lock = MLFLOW_LOCK
    lock.parent.mkdir(exist_ok=True)
    # Processes that open a fresh SQLite store at once break it for good.
    with FileLock(lock):
        client = MlflowClient(tracking_uri())
        client.search_experiments(max_results=1)
    return client


def _find_or_create_run(client: MlflowClient, cell: Cell, *, experiment: str) -> Run:
    outputs = [cell.model / model_card.NAME, cell.model / "model.safetensors", cell.history]
    digest = _sha256(outputs)
    experiment_id = _experiment_id(client, experiment)
    found = client.search_runs([experiment_id], f"tags.`{_OUTPUTS}` = '{digest}'", max_results=1)
    if found:
        return found[0]
    card, cost = read_model_card(cell.model), read_train_cost(cell.cost)
    started_ms = round(cost.started_at_unix_s * 1000)
    ended_ms = started_ms + round(cost.train_seconds * 1000)
    tags = {"variant": cell.variant, "seed": str(cell.seed), **cost.provenance}
    run = client.create_run(experiment_id, start_time=started_ms, run_name=str(cell), tags=tags)
    try:
        client.log_batch(
            run.info.run_id,
            params=[Param(key, str(value)) for key, value in _flatten(_parameters(card))],
            metrics=[
                *_history_metrics(cell.history, started_ms, ended_ms),
                *_cost_metrics(cost, ended_ms),
                Metric("temperature", card.temperature, ended_ms, 0),
            ],
        )
        client.log_artifacts(run.info.run_id, str(cell.model), "model")
        client.log_artifact(run.info.run_id, str(cell.history), "history")
        # Last: a run that was cut off above is not found by its hash, and is made again.
        client.set_tag(run.info.run_id, _OUTPUTS, digest)
        client.set_terminated(run.info.run_id, "FINISHED", ended_ms)
    except BaseException:
        client.delete_run(run.info.run_id)
        raise
    return client.get_run(run.info.run_id)


def _mirror_evaluation(client: MlflowClient, run: Run, cell: Cell) -> None:
    if not cell.metrics.exists() or run.data.tags.get(_METRICS) == (digest := _sha256([cell.metrics])):
        return
    values = read_metrics(cell.metrics).model_dump(include={"test", "uncalibrated", "val", "backbone_tensors_moved"})
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(key.replace(".", "_"), value, run.info.end_time, 0) for key, value in _flatten(values)],
    )
    client.log_artifact(run.info.run_id, str(cell.predictions), "predictions")
    client.set_tag(run.info.run_id, _METRICS, digest)


def _mirror_external(client: MlflowClient, run: Run, cell: Cell, external: ExternalSet) -> None:
    """Metrics such as `external_web_accuracy`, and the predictions."""
    metrics, tag = external.metrics(cell), f"thaw.external_{external}_sha256"
    if not metrics.exists() or run.data.tags.get(tag) == (digest := _sha256([metrics])):
        return
    values = read_external_metrics(metrics).external.model_dump()
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(f"external_{external}_{key}", value, run.info.end_time, 0) for key, value in values.items()],
    )
    client.log_artifact(run.info.run_id, str(external.predictions(cell)), f"predictions/{external}")
    client.set_tag(run.info.run_id, tag, digest)


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


def _parameters(card: ModelCard) -> dict[str, Any]:
    """What was chosen, as opposed to what came out."""
    return card.model_dump(mode="json", exclude={"classes", "storage", "best", "temperature"})


def _history_metrics(history: Path, started_ms: int, ended_ms: int) -> list[Metric]:
    epochs = read_history(history).epochs
    names = ("lr", "penalty", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
    # When each epoch ended is not kept, since it differs from run to run; spread evenly, the curves look right by time.
    per_epoch_ms = (ended_ms - started_ms) / len(epochs)
    return [
        Metric(name, getattr(epoch, name), round(started_ms + step * per_epoch_ms), step)
        for step, epoch in enumerate(epochs, start=1)
        for name in names
        if getattr(epoch, name) is not None  # a solved phase has no rate, and the others no penalty
    ]


def _cost_metrics(cost: TrainCost, at_ms: int) -> list[Metric]:
    return [
        Metric(name, getattr(cost, name), at_ms, 0)
        for name in ("train_seconds", "images_per_second", "peak_memory_mib")
    ]


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


def main() -> None:
    """Show one cell once the process that started this one says so; see `background.synced_in_background`."""
    variant, seed, stage, *external = sys.argv[1:]
    experiment = load_params().tracking.experiment
    through: Stage = "train" if stage == "train" else "evaluate"
    if sys.stdin.readline():
        sync_cell(
            Cell(variant, int(seed)),
            experiment=experiment,
            through=through,
            external=[ExternalSet(name) for name in external],
        )


if __name__ == "__main__":
    main()
