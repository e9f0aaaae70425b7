"""A model in MLflow is logged once, holds no pickle, and works without thaw as evaluation does.

Run with: pytest tests/tracking/test_mlflow_models.py
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.data.image_zip import ImageZip
from thaw.evaluation.evaluate import evaluate_cell
from thaw.evaluation.predictions_csv import read_predictions
from thaw.network.model_card import read_model_card, write_model_card
from thaw.network.onnx_export import onnx_model
from thaw.params import ComputeParams, SolvedPhase
from thaw.params_file import load_params
from thaw.paths import Cell
from thaw.tracking.mlflow_models import CHAMPION, REGISTERED, UnlikePredictionsError, log_model, register_champion
from thaw.tracking.sync import show_all, show_models
from thaw.training.train import train_cell
from tracking import tracked_project

CELL = Cell("frozen", 3)
SERVE = """
import json, sys
sys.modules["thaw"] = None  # importing it fails
import mlflow, numpy as np, pandas as pd
from PIL import Image
model = mlflow.pyfunc.load_model(sys.argv[1])
files = [open(path, "rb").read() for path in sys.argv[2:]]
pixels = [np.asarray(Image.open(path)) for path in sys.argv[2:]]
said = [model.predict(pd.DataFrame({"image": images})).to_dict("records") for images in (files, pixels)]
print(json.dumps(said))
"""


@pytest.fixture
def run_id(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The run of an evaluated cell whose architecture was exported."""
    embed_tiny()
    train_cell(
        CELL,
        candidates=[(SolvedPhase(),)],
        backbone=TINY_BACKBONE,
        storage=TINY_STORAGE,
        val="fixed",
        training=TINY_TRAINING,
    )
    evaluate_cell(CELL, batch_size=5)
    client = MlflowClient(uri())
    experiment = client.create_experiment("tests", Path("mlartifacts").resolve().as_uri())
    return str(client.create_run(experiment).info.run_id)


def uri() -> str:
    return f"sqlite:///{Path('mlflow.db').resolve()}"


def test_a_logged_model(run_id: str, tmp_path: Path) -> None:
    client = MlflowClient(uri())
    assert log_model(client, run_id, CELL, uri=uri()) is None, "no graph of this architecture was exported"
    onnx_model(CELL.model)
    model_id = log_model(client, run_id, CELL, uri=uri())
    assert model_id is not None
    assert log_model(client, run_id, CELL, uri=uri()) == model_id
    # What the run says later, its model says too.
    client.set_tag(run_id, "mlflow.note.content", "frozen-3 is good.")
    assert log_model(client, run_id, CELL, uri=uri()) == model_id
    assert client.get_logged_model(model_id).tags["mlflow.note.content"] == "frozen-3 is good."
    folder = Path(download_artifacts(f"models:/{model_id}", dst_path=str(tmp_path / "logged"), tracking_uri=uri()))
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "network.onnx", "served_classifier.py", "requirements.txt", "input_example.json"} <= files
    assert not {name for name in files if Path(name).suffix in {".pkl", ".pickle", ".pth", ".pt", ".bin"}}
    required = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in required)
    assert not any("thaw" in line or "torch" in line for line in required)

    # Evaluation's answers, without thaw; the images of this project are PNGs, so their pixels get the same.
    predictions = read_predictions(CELL.predictions, classes=("Cat", "Dog"))
    saved = []
    with ImageZip(paths.IMAGES) as images:
        for number, path in enumerate(predictions.paths):
            saved.append(tmp_path / f"{number}.png")
            saved[-1].write_bytes(images.read(path))
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(folder), *map(str, saved)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for said in json.loads(done.stdout):
        found = np.array([[row["probabilities"][name] for name in ("Cat", "Dog")] for row in said])
        np.testing.assert_allclose(found, predictions.probabilities, rtol=0, atol=1e-5)
        assert [row["class"] for row in said] == [("Cat", "Dog")[index] for index in predictions.predicted]

    register_champion(client, model_id, run_id=run_id, cell=CELL)
    register_champion(client, model_id, run_id=run_id, cell=CELL)
    champion = client.get_model_version_by_alias(REGISTERED, CHAMPION)
    assert champion.source == f"models:/{model_id}"
    assert len(client.search_model_versions(f"name = '{REGISTERED}'")) == 1

    # Files that are lost, and another model, make it be logged again.
    location = Path(client.get_logged_model(model_id).artifact_location.removeprefix("file://"))
    (location / "artifacts/network.onnx").unlink()
    again = log_model(client, run_id, CELL, uri=uri())
    assert again not in (None, model_id)
    card = read_model_card(CELL.model)
    write_model_card(CELL.model, card.model_copy(update={"temperature": 7.0}))
    with pytest.raises(UnlikePredictionsError):
        log_model(client, run_id, CELL, uri=uri())
    write_model_card(CELL.model, card)
    assert log_model(client, run_id, CELL, uri=uri()) == again


def test_a_model_that_half_precision_evaluated_is_left_out_and_named(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracked_project.make_project()
    cell = tracked_project.CELL
    evaluate_cell(cell, batch_size=8, compute=ComputeParams(precision="bfloat16"))
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    settings["compute"]["precision"] = "bfloat16"
    Path("params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    tracked_project.write_lock()
    onnx_model(cell.model)
    params = load_params()
    runs = show_all(params, tracked_project.silent).runs
    said = show_models(params, runs, tracked_project.silent, champion=cell)
    assert said.startswith(f"MLflow shows no model of {cell}: models compute in float32 there, and ")
    assert "from predictions.csv, which bfloat16 made; `champion` stays what it was" in said
    assert said.endswith("; set `compute.precision: float32`, or write files by `thaw export`")
    assert MlflowClient(uri()).search_logged_models(["1"]) == []
