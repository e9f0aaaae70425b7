"""A project with one trained and evaluated cell, as DVC would leave it, and what MLflow shows of it."""

import json
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from conftest import ROOT, TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.evaluation.evaluate import evaluate_cell
from thaw.params import Params, list_candidates
from thaw.params_file import load_params
from thaw.paths import Cell
from thaw.tracking.location import tracking_uri
from thaw.training.train import train_cell
from thaw.utils.hashing import sha256_of

CELL = Cell("tuned", 3)
PHASES = [{"train": "head"}, {"train": "all", "epochs": 2, "lr": [0.001, 0.01]}]


def silent() -> None:
    """A beat that nobody waits for."""


def write_params() -> Params:
    """params.yaml with the one variant and seed of CELL."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values |= {"variants": {CELL.variant: PHASES}, "seeds": [CELL.seed]}
    values["backbone"] |= TINY_BACKBONE.model_dump()
    values["training"] |= TINY_TRAINING.model_dump()
    values["split"]["val"] = "fixed"
    values["tracking"]["experiment"] = "tests"
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_params()


def train() -> None:
    """Train CELL, and test it."""
    train_cell(
        CELL,
        candidates=list_candidates(write_params().variants[CELL.variant]),
        backbone=TINY_BACKBONE,
        storage=TINY_STORAGE,
        val="fixed",
        training=TINY_TRAINING,
    )
    evaluate_cell(CELL, batch_size=8)


def make_project() -> Params:
    """In the folder of `conftest.tiny_project`: train, test, and note it as DVC does."""
    params = write_params()
    embed_tiny()
    write_lock()
    train()
    write_lock()
    return params


def write_lock(**changed: dict[str, Any]) -> None:
    """dvc.lock, with a hash of each file that a stage has made; `changed` replaces whole stages."""

    def entries(*files: Path) -> list[dict[str, str]]:
        return [{"path": path.as_posix(), "md5": _hash(path)} for path in files if path.exists()]

    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    inputs = entries(paths.IMAGES, paths.SPLITS, paths.FEATURES)
    stages: dict[str, Any] = {
        "clean": {"params": {"params.yaml": {"data.source": "sample", "clean": values["clean"]}}},
        "split": {"params": {"params.yaml": {"split": values["split"]}}},
        "embed": {"params": {"params.yaml": {"embed": values["embed"]}}},
        f"train@{CELL}": {
            "deps": inputs,
            "params": {"params.yaml": {"compute": values["compute"]}},
            "outs": entries(CELL.model, CELL.history),
        },
        f"evaluate@{CELL}": {
            "deps": entries(CELL.model),
            "params": {"params.yaml": {"compute": values["compute"]}},
            "outs": entries(CELL.metrics),
        },
    }
    for name, out in (("clean", paths.IMAGES), ("split", paths.SPLITS), ("embed", paths.FEATURES)):
        stages[name]["outs"] = entries(out)
    if not CELL.model.exists():
        del stages[f"train@{CELL}"], stages[f"evaluate@{CELL}"]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages | changed}), encoding="utf-8")


def _hash(path: Path) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return "".join(sha256_of(file)[:8] for file in files)


def write_report() -> None:
    """reports/, as far as MLflow shows it."""
    metrics = json.loads(CELL.metrics.read_text(encoding="utf-8"))
    row = {"variant": CELL.variant, "accuracy_mean": 0.5, "accuracy_ci95": [0.4, 0.6], "cost": {"flops": 2e12}}
    paths.FIGURES.mkdir(parents=True, exist_ok=True)
    for name in (f"{CELL}-curves", "accuracy"):
        (paths.FIGURES / f"{name}.png").write_bytes(b"png")
    report = {
        "runs": [{"variant": CELL.variant, "seed": CELL.seed, "test": metrics["test"], "val": metrics["val"]}],
        "variants": [row],
        "recommended": {"variant": CELL.variant},
        "verdict": ["What is estimated.", "Recommended: tuned.", "Alone."],
    }
    paths.COMPARISON_JSON.write_text(json.dumps(report), encoding="utf-8")
    for path in (paths.COMPARISON_HTML, paths.COMPARISON_MD, paths.SUMMARY):
        path.write_text("a report", encoding="utf-8")


def runs_of(client: MlflowClient | None = None) -> dict[str, Run]:
    """All runs that MLflow shows, by name; two of one name are an error."""
    client = client or MlflowClient(tracking_uri())
    experiment = client.get_experiment_by_name("tests")
    found = [] if experiment is None else client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found), [run.info.run_name for run in found]
    return {str(run.info.run_name): run for run in found}


def shown(name: str = str(CELL)) -> dict[str, Any]:
    """All that one run shows, but for times and ids."""
    client = MlflowClient(tracking_uri())
    run = runs_of(client)[name]
    curves = {
        key: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }
    files = {
        (file.path, file.file_size)
        for folder in client.list_artifacts(run.info.run_id)
        for file in client.list_artifacts(run.info.run_id, folder.path)
    }
    tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
    inputs = [] if run.inputs is None else [found.dataset.to_dictionary() for found in run.inputs.dataset_inputs]
    return {
        "status": run.info.status,
        "params": run.data.params,
        "curves": curves,
        "tags": tags,
        "files": files,
        "inputs": inputs,
    }
