"""One run of MLflow: find it by what it shows, make it if there is none, add what it lacks."""

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping

import psutil
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType

from thaw.paths import Cell
from thaw.tracking.content import Dataset as Trained
from thaw.tracking.content import Point, RunContent, sha256

OUTPUTS = "thaw.outputs_sha256"
"""The tag by which a run is found; it is set last, so that a run with it was whole."""

ARTIFACTS = "thaw.artifacts_sha256"
"""The tag with a hash of each folder of artifacts, as JSON."""

LIVE = "thaw.live"
"""The tag of a run that is not whole yet: which process is at it."""

PARENT = "mlflow.parentRunId"


def show(
    client: MlflowClient,
    experiment_id: str,
    content: RunContent,
    *,
    adopt: str | None = None,
    rows: int = 0,
    parent: str | None = None,
) -> str:
    """Make one run show `content`, and return its id. To be called under `store.exclusive`.

    Args:
        client: of the store.
        experiment_id: where it belongs.
        content: what it shows in the end.
        adopt: a live run that may become this one; if there is another already, it is deleted.
        rows: of the curves, how many rows the live run has already.
        parent: the id of its parent run.
    """
    run = _find(client, experiment_id, content.digest)
    if run is not None and adopt is not None and run.info.run_id != adopt:
        client.delete_run(adopt)
    if run is None:
        if adopt is None:
            adopt, rows = start(client, experiment_id, content), 0
        run = client.get_run(adopt)
        first = 1 + rows
        log_points(client, adopt, [point for point in content.curves if point.step >= first])
    _complete(client, run, content, parent=parent)
    return str(run.info.run_id)


def start(client: MlflowClient, experiment_id: str, content: RunContent) -> str:
    """A run that is marked as not whole, with the parameters, tags and data set of `content`."""
    started_ms = content.started_ms or round(time.time() * 1000)
    tags = {**content.tags, LIVE: _this_process()}
    run = client.create_run(experiment_id, start_time=started_ms, run_name=content.name, tags=tags)
    _log_params(client, run.info.run_id, content.params)
    if content.dataset is not None:
        client.log_inputs(run.info.run_id, [_dataset_input(content.dataset)])
    return str(run.info.run_id)


def log_points(client: MlflowClient, run_id: str, points: Iterable[Point]) -> None:
    """Add to curves; MLflow takes a thousand points at once."""
    metrics = [Metric(point.key, point.value, point.at_ms, point.step) for point in points]
    for begin in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[begin : begin + 1000])


def delete_interrupted(client: MlflowClient, experiment_id: str, *, cell: Cell | None = None) -> None:
    """Delete runs that are not whole and whose process, on this machine, is gone; of one cell alone, if named."""
    host = _this_process().split()[0]
    for run in client.search_runs([experiment_id], f"tags.`{LIVE}` LIKE '{host} %'", max_results=1000):
        tags = run.data.tags
        if cell in (None, (tags.get("variant"), int(tags.get("seed", -1)))) and not _is_alive(tags[LIVE]):
            client.delete_run(run.info.run_id)


def _find(client: MlflowClient, experiment_id: str, digest: str) -> Run | None:
    """The whole run of these outputs; of several, as two clones may make them, one is kept."""
    which = f"tags.`{OUTPUTS}` = '{digest}'"
    found = sorted(client.search_runs([experiment_id], which), key=lambda run: (run.info.start_time, run.info.run_id))
    for run in found[1:]:
        client.delete_run(run.info.run_id)
    if found:
        return found[0]
    deleted = client.search_runs([experiment_id], which, ViewType.DELETED_ONLY, max_results=1)
    if not deleted:
        return None
    client.restore_run(deleted[0].info.run_id)
    return client.get_run(deleted[0].info.run_id)


def _complete(client: MlflowClient, run: Run, content: RunContent, *, parent: str | None) -> None:
    """Add what `run` lacks of all but curves."""
    run_id, data = run.info.run_id, run.data
    # A parameter never changes, so that of an earlier release stays as it is.
    _log_params(client, run_id, {key: value for key, value in content.params.items() if key not in data.params})
    # Of two values at one step MLflow shows the later.
    now_ms = content.ended_ms if data.metrics.keys().isdisjoint(content.metrics) else round(time.time() * 1000)
    metrics = [
        Metric(key, value, now_ms, 0) for key, value in content.metrics.items() if data.metrics.get(key) != value
    ]
    tags = {**content.tags, "mlflow.runName": content.name} | ({} if parent is None else {PARENT: parent})
    new_tags = [RunTag(key, value) for key, value in tags.items() if data.tags.get(key) != value]
    if metrics or new_tags:
        client.log_batch(run_id, metrics=metrics, tags=new_tags)
    if content.dataset is not None and not (run.inputs and run.inputs.dataset_inputs):
        client.log_inputs(run_id, [_dataset_input(content.dataset)])
    _upload(client, run, content)
    if data.tags.get(OUTPUTS) != content.digest:
        client.set_tag(run_id, OUTPUTS, content.digest)
    if run.info.status != "FINISHED" or run.info.end_time is None:
        # A live run begins when MLflow has been loaded, by when a solved head may have ended.
        client.set_terminated(run_id, "FINISHED", max(content.ended_ms, run.info.start_time))
    if LIVE in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, LIVE)


def _log_params(client: MlflowClient, run_id: str, values: Mapping[str, str]) -> None:
    """MLflow takes a hundred parameters at once."""
    params = [Param(key, value) for key, value in values.items()]
    for begin in range(0, len(params), 100):
        client.log_batch(run_id, params=params[begin : begin + 100])


def _upload(client: MlflowClient, run: Run, content: RunContent) -> None:
    """Bring the artifacts that are missing there, and folders in which any has changed."""
    run_id = run.info.run_id
    noted: dict[str, str] = json.loads(run.data.tags.get(ARTIFACTS, "{}"))
    for folder, files in content.artifacts.items():
        digest = sha256(files)
        have: dict[str, int] = {}
        if noted.get(folder) == digest:
            have = {found.path: found.file_size or 0 for found in client.list_artifacts(run_id, folder)}
        for file in files:
            if have.get(f"{folder}/{file.name}") != file.stat().st_size:
                client.log_artifact(run_id, str(file), folder)
        noted[folder] = digest
    now = json.dumps(noted, sort_keys=True)
    if run.data.tags.get(ARTIFACTS) != now:
        client.set_tag(run_id, ARTIFACTS, now)


def _dataset_input(trained: Trained) -> DatasetInput:
    dataset = Dataset(trained.name, trained.digest, "thaw", trained.source, None, trained.profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _this_process() -> str:
    """Machine, number and start of this process: `host 123 1795634348.2`."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.1f}"


def _is_alive(process: str) -> bool:
    """Whether a process of this machine still runs; its number may be another one's by now."""
    _, number, created = process.split()
    try:
        return f"{psutil.Process(int(number)).create_time():.1f}" == created
    except psutil.NoSuchProcess:
        return False
