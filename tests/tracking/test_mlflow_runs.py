"""MLflow mirrors the files of a cell: once, completely, and again after it was lost.

Run with: pytest tests/tracking/test_mlflow_runs.py
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.evaluation.evaluate import evaluate_cell
from thaw.evaluation.metrics_json import ExternalMetrics, ScoresOnTest, write_external_metrics
from thaw.params import AnyPhase, Phase, SolvedPhase
from thaw.paths import Cell, ExternalSet
from thaw.tracking.mlflow_runs import is_evaluated, is_evaluated_on, sync_cell, tracking_uri
from thaw.training.history_csv import read_history
from thaw.training.train import train_cell

CELL = Cell("frozen", 3)


@pytest.fixture
def trained(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one trained cell."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    embed_tiny()
    train_tiny([Phase(train="head", epochs=3, lr=0.01)])
    return tiny_project


def train_tiny(phases: Sequence[AnyPhase]) -> None:
    train_cell(
        CELL,
        candidates=[tuple(phases)],
        backbone=TINY_BACKBONE,
        storage=TINY_STORAGE,
        val="fixed",
        training=TINY_TRAINING,
    )


def runs_of(experiment: str) -> list[Run]:
    client = MlflowClient(tracking_uri())
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def test_a_run_shows_parameters_curves_tags_and_the_model(trained: Path) -> None:
    run_id = sync_cell(CELL, experiment="tests", through="train")
    assert run_id is not None
    client = MlflowClient(tracking_uri())
    run = client.get_run(run_id)
    assert run.info.run_name == "frozen-3"
    assert run.info.status == "FINISHED"
    assert run.data.params["phases.0.lr"] == "0.01"
    assert run.data.params["backbone.name"] == "mobilenet_v3_small"
    assert (run.data.tags["variant"], run.data.tags["seed"]) == ("frozen", "3")
    assert [metric.step for metric in client.get_metric_history(run_id, "val_loss")] == [1, 2, 3]
    assert {file.path for file in client.list_artifacts(run_id, "model")} == {
        "model/model.json",
        "model/model.safetensors",
    }
    assert "test_accuracy" not in run.data.metrics


def test_a_solved_head_shows_its_path_of_penalties(trained: Path) -> None:
    train_tiny([SolvedPhase()])
    run_id = sync_cell(CELL, experiment="tests", through="train")
    assert run_id is not None
    client = MlflowClient(tracking_uri())
    run = client.get_run(run_id)
    path = [epoch.penalty for epoch in read_history(CELL.history).epochs]
    assert [metric.value for metric in client.get_metric_history(run_id, "penalty")] == path
    assert "lr" not in run.data.metrics
    assert run.data.params["phases.0.train"] == "head"


def test_evaluation_and_figures_join_the_same_run(trained: Path) -> None:
    run_id = sync_cell(CELL, experiment="tests", through="report")
    evaluate_cell(CELL, batch_size=8)
    paths.FIGURES.mkdir(parents=True)
    (paths.FIGURES / "frozen-3-curves.png").write_bytes(b"png")
    (paths.FIGURES / "frozen-30-curves.png").write_bytes(b"another cell's")
    assert run_id is not None
    assert sync_cell(CELL, experiment="tests", through="report") == run_id
    client = MlflowClient(tracking_uri())
    assert 0 <= client.get_run(run_id).data.metrics["test_accuracy"] <= 1
    assert [file.path for file in client.list_artifacts(run_id, "figures")] == ["figures/frozen-3-curves.png"]


def test_metrics_on_an_external_set_join_the_same_run(trained: Path) -> None:
    web, zoo = ExternalSet("web"), ExternalSet("zoo")
    for external, accuracy in ((web, 0.75), (zoo, 0.5)):
        scores = ScoresOnTest(accuracy=accuracy, balanced_accuracy=accuracy, log_loss=0.5, roc_auc=0.8, ece=0.1)
        write_external_metrics(external.metrics(CELL), ExternalMetrics(external=scores))
        external.predictions(CELL).parent.mkdir(parents=True)
        external.predictions(CELL).write_text("path,label\n")
    run_id = sync_cell(CELL, experiment="tests", through="train")
    assert sync_cell(CELL, experiment="tests", through="train", external=[web]) == run_id
    assert run_id is not None
    client = MlflowClient(tracking_uri())
    metrics = client.get_run(run_id).data.metrics
    assert (metrics["external_web_accuracy"], metrics["external_web_ece"]) == (0.75, 0.1)
    assert "external_zoo_accuracy" not in metrics, "nobody said that it is of this model"
    assert [file.path for file in client.list_artifacts(run_id, "predictions/web")] == ["predictions/web/frozen-3.csv"]


def test_mirroring_twice_makes_one_run_and_retraining_with_the_same_result_none(trained: Path) -> None:
    first = sync_cell(CELL, experiment="tests", through="report")
    assert sync_cell(CELL, experiment="tests", through="report") == first
    assert [run.info.run_id for run in runs_of("tests")] == [first]


def test_a_lost_store_is_rebuilt_from_the_files(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate_cell(CELL, batch_size=8)

    def shown() -> tuple[dict[str, float], dict[str, str]]:
        run_id = sync_cell(CELL, experiment="tests", through="report")
        assert run_id is not None
        run = MlflowClient(tracking_uri()).get_run(run_id)
        return run.data.metrics, run.data.params

    before = shown()
    # Another store stands for a lost one: MLflow keeps the first one open as long as this process lives.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained / 'new.db'}")
    assert shown() == before


def test_only_metrics_of_the_present_model_count_as_its_evaluation(trained: Path) -> None:
    assert not is_evaluated(CELL)
    stage = {
        "train@frozen-3": {"outs": [{"path": "data/models/frozen-3", "md5": "new"}]},
        "evaluate@frozen-3": {"deps": [{"path": "data/models/frozen-3", "md5": "old"}]},
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stage}))
    assert not is_evaluated(CELL)
    stage["evaluate@frozen-3"]["deps"][0]["md5"] = "new"
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stage}))
    assert is_evaluated(CELL)
    assert not is_evaluated_on(ExternalSet("web"), CELL)
    stage["evaluate_external@web-frozen-3"] = stage["evaluate@frozen-3"]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stage}))
    assert is_evaluated_on(ExternalSet("web"), CELL)


def test_a_run_that_could_not_be_finished_is_taken_back(trained: Path) -> None:
    content = CELL.history.read_text(encoding="utf-8")
    CELL.history.write_text(content.replace("val_loss", "lost"), encoding="utf-8")
    assert sync_cell(CELL, experiment="tests", through="train") is None
    assert runs_of("tests") == []


def test_a_server_that_is_gone_costs_a_warning_and_not_the_stage(
    trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        assert sync_cell(CELL, experiment="tests", through="report") is None
    assert "run `thaw sync`" in caplog.text
