"""MLflow shows what DVC's outputs hold: once, completely, and again whatever became of it.

Run with: pytest tests/tracking/test_sync.py
"""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from thaw import cli
from thaw.errors import DataError
from thaw.evaluation.metrics_json import ExternalMetrics, ScoresOnTest, write_external_metrics
from thaw.params import Params
from thaw.params_file import load_params
from thaw.paths import COMPARISON_MD, Cell, ExternalSet
from thaw.report import champion
from thaw.tracking import background
from thaw.tracking.background import sync_now
from thaw.tracking.content import is_evaluated, is_evaluated_on, live_content
from thaw.tracking.in_line import hash_here, note_in_line, shown_in_line
from thaw.tracking.location import StoreError, tracking_uri
from thaw.tracking.runs import LIVE, start
from thaw.tracking.saved_view import TAG
from thaw.tracking.store import connect, open_experiment
from thaw.tracking.sync import show_all, show_cell
from thaw.training.history_csv import read_history
from thaw.utils.dvc_lock import read_dvc_lock
from tracking.tracked_project import CELL, make_project, runs_of, shown, silent, write_lock, write_report


@pytest.fixture
def project(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """One cell, trained and tested, and a report on it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = make_project()
    write_report()
    return params


def test_all_is_shown_once_completed_and_restored(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    # One test, since each training and each fresh store costs seconds.
    first = show_all(project, silent)
    ids = first.runs
    client = MlflowClient(tracking_uri())
    (parent,) = [run for name, run in runs_of().items() if name.startswith("pipeline")]
    run, whole = runs_of()[str(CELL)], shown()
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.data.tags["mlflow.user"]
    assert (run.data.params["split.seed"], run.data.params["embed.views"]) == ("0", "4")
    assert (run.data.params["phases.1.train"], run.data.params["training.batch_size"]) == ("all", "4")
    assert run.data.params["compute.precision"] == "float32"
    assert "Recommended: tuned." in run.data.tags["mlflow.note.content"]
    epochs = read_history(CELL.history).epochs
    assert next(iter(run.data.metrics)) == "val_accuracy", "MLflow's page that compares runs opens with the first"
    assert whole["curves"]["phase"] == [(step, epoch.phase + 1) for step, epoch in enumerate(epochs, start=1)]
    assert whole["curves"]["val_loss"] == [(step, epoch.val_loss) for step, epoch in enumerate(epochs, start=1)]
    low, high = run.data.metrics["test_accuracy_ci95_low"], run.data.metrics["test_accuracy_ci95_high"]
    assert 0 <= low <= run.data.metrics["test_accuracy"] <= high <= 1
    assert {"system/train_seconds", "cost_train_tflop"} <= run.data.metrics.keys()
    assert '"train": 12' in whole["inputs"][0]["profile"]
    assert {path for path, _ in whole["files"]} >= {"model/model.safetensors", f"figures/{CELL}-curves.png"}
    assert {path for path, _ in shown(str(parent.info.run_name))["files"]} >= {
        "report/comparison.html",
        "figures/accuracy.png",
    }

    assert show_all(project, silent) == first
    assert shown() == whole

    here_sha256 = hash_here(project)
    COMPARISON_MD.touch()
    note_in_line(here_sha256, first)
    assert shown_in_line(project) is None, "a stage ended while the two were compared"
    note_in_line(hash_here(project), first)
    assert shown_in_line(project) == first
    shutil.rmtree(Path("mlartifacts", ids[str(CELL)], "artifacts", "model"))
    assert shown_in_line(project) is None
    show_all(project, silent)
    assert shown() == whole
    assert shown_in_line(project) == first

    client.set_tag(ids[str(CELL)], "variant", "edited by hand")
    assert shown_in_line(project) is None
    client.delete_run(ids[str(CELL)])
    assert show_all(project, silent) == first
    assert shown() == whole

    tags = client.get_experiment(run.info.experiment_id).tags
    assert (
        first.address
        == f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=thaw"
    )
    view = json.loads(json.loads(tags[TAG])["state"])
    compared = client.search_runs([run.info.experiment_id], view["searchFilter"])
    assert [found.info.run_id for found in compared] == [ids[str(CELL)]]
    drawn = [
        axis["key"] for chart in view["compareRunCharts"] for axis in (chart.get("xaxis"), chart.get("yaxis")) if axis
    ]
    drawn += [chart["metricKey"] for chart in view["compareRunCharts"] if "metricKey" in chart]
    assert set(drawn) <= compared[0].data.metrics.keys()
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} < sections
    client.delete_experiment_tag(run.info.experiment_id, TAG)
    assert shown_in_line(project) is None
    show_all(project, silent)
    assert client.get_experiment(run.info.experiment_id).tags == tags

    client.delete_experiment(run.info.experiment_id)
    assert shown_in_line(project) is None
    assert show_all(project, silent) == first
    assert shown() == whole

    # A run of another process, which was killed half-way.
    interrupted = start(
        client, run.info.experiment_id, live_content(CELL, params=project, stages={}, candidate=0, provenance={})
    )
    show_all(project, silent)
    assert interrupted in {found.info.run_id for found in runs_of().values()}, "its process lives"
    client.set_tag(interrupted, LIVE, client.get_run(interrupted).data.tags[LIVE].rpartition(" ")[0] + " 1.0")
    show_all(project, silent)
    assert len(runs_of()) == 2

    # Another clone made the same run at the same time.
    copy = client.create_run(run.info.experiment_id, start_time=run.info.start_time + 1)
    client.set_tag(copy.info.run_id, "thaw.outputs_sha256", run.data.tags["thaw.outputs_sha256"])
    assert show_all(project, silent) == first
    assert len(runs_of()) == 2

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/new/other.db")
    Path("new").mkdir()
    show_all(project, silent)
    assert shown() == whole
    assert {path.name for path in Path("new").iterdir()} >= {"other.db", "mlartifacts"}


def test_a_cell_that_is_trained_again_is_left_out(
    project: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"seeds": [CELL.seed, 4]}))
    again = Cell(CELL.variant, 4)
    shutil.copy(CELL.metrics, again.metrics)
    exported: list[Path] = []
    monkeypatch.setattr(cli, "_export_architectures", exported.extend)
    monkeypatch.setattr(background, "sync_now", lambda champion: show_all(load_params(), silent))
    monkeypatch.setattr(champion, "find_champion", lambda: CELL)
    monkeypatch.setattr(sys, "argv", ["thaw", "sync"])
    cli.main()
    assert capsys.readouterr().out.startswith("MLflow shows 1 of 2 runs: ")
    assert exported == [CELL.model]


def test_a_report_is_not_shown_of_fewer_cells_than_it_has(project: Params) -> None:
    show_all(project, silent)
    (before,) = [name for name in runs_of() if name.startswith("pipeline")]
    # As DVC does before it trains.
    shutil.rmtree(CELL.model)
    CELL.history.unlink()
    CELL.cost.unlink()
    assert show_all(project, silent).runs == {}
    assert runs_of().keys() == {str(CELL), before}


def test_a_moved_project_keeps_its_artifacts(project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = show_all(project, silent)
    moved = tmp_path.with_name(f"{tmp_path.name} moved")
    shutil.copytree(tmp_path, moved)
    shutil.rmtree(tmp_path / "mlartifacts")
    monkeypatch.chdir(moved)
    (moved / "reports/figures/accuracy.png").write_bytes(b"another")
    assert sync_now() == before  # in a process of its own, since MLflow keeps in mind where artifacts are
    assert not (tmp_path / "mlartifacts").exists()
    artifacts = MlflowClient(tracking_uri()).list_artifacts(before.runs[str(CELL)], "model")
    assert {file.path for file in artifacts} == {"model/model.json", "model/model.safetensors"}


def test_what_is_not_of_the_present_model_is_not_shown(project: Params) -> None:
    external = ExternalSet("web")
    scores = ScoresOnTest(accuracy=0.75, balanced_accuracy=0.75, log_loss=0.5, roc_auc=0.8, ece=0.1)
    write_external_metrics(external.metrics(CELL), ExternalMetrics(external=scores))
    external.predictions(CELL).parent.mkdir(parents=True)
    external.predictions(CELL).write_text("path,label\n")
    stages = read_dvc_lock()
    assert is_evaluated(CELL, stages)
    assert not is_evaluated_on(external, CELL, stages)
    write_lock(**{f"evaluate@{CELL}": {"deps": [{"path": CELL.model.as_posix(), "md5": "old"}]}})
    assert not is_evaluated(CELL, read_dvc_lock())
    client = connect(silent)
    experiment_id = open_experiment(client, "tests")
    show_cell(client, experiment_id, CELL, stages=stages, beat=silent, external=[external])
    metrics = runs_of()[str(CELL)].data.metrics
    assert (metrics["external_web_accuracy"], metrics["external_web_ece"]) == (0.75, 0.1)
    assert "test_accuracy" not in metrics
    # A stage upstream has run again since, with other parameters: they are not this model's.
    write_lock(
        split={"params": {"params.yaml": {"split.seed": 9}}, "outs": [{"path": "data/splits.csv", "md5": "new"}]}
    )
    CELL.history.write_text(CELL.history.read_text() + "\n")  # so that it is another run
    show_cell(client, experiment_id, CELL, stages=read_dvc_lock(), beat=silent)
    assert sorted(run.data.params.get("split.seed", "none") for run in client.search_runs([experiment_id])) == [
        "0",
        "none",
    ]


def test_what_keeps_a_store_from_being_used_is_one_sentence(
    project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reason(uri: str) -> str:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(StoreError) as caught:
            show_all(project, silent)
        return str(caught.value)

    show_all(project, silent)
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as source, closing(sqlite3.connect(old)) as copy:
        source.backup(copy)
        with copy:
            copy.execute("UPDATE alembic_version SET version_num = 'acf3f17fdcc7'")
    assert f"run `mlflow db upgrade sqlite:///{old}`" in reason(f"sqlite:///{old}")
    assert "unable to open database file" in reason(f"sqlite:///{tmp_path}/reports")
    assert "127.0.0.1:9: connection refused" in reason("http://127.0.0.1:9")


def test_a_conflict_in_the_lock_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_dvc_lock() == {}
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n<<<<<<< HEAD\n  check:\n    cmd: a\n")
    with pytest.raises(DataError, match=r"dvc.lock cannot be read in line \d, .*git checkout HEAD -- dvc.lock"):
        read_dvc_lock()
