"""Models in MLflow that work without this package: logged once each, and the recommended one registered."""

import hashlib
import io
import json
import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import mlflow
import numpy as np
import onnx
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import ColSpec, Map, Schema
from PIL import Image

from thaw.data.image_zip import ImageZip
from thaw.errors import ThawError
from thaw.evaluation.predictions_csv import read_predictions
from thaw.network import model_card
from thaw.network.model_card import read_model_card
from thaw.network.model_folder import TENSORS
from thaw.network.onnx_graph import find_onnx
from thaw.paths import IMAGES, Cell
from thaw.tracking import served_classifier
from thaw.tracking.content import NOTE
from thaw.utils.code_closure import installed_version
from thaw.utils.hashing import sha256_of

REGISTERED, CHAMPION = "thaw", "champion"
"""The name of the registered model, and the alias of the version to use."""
CHECKED = 8
MOST_DIFFERENCE = 1e-4
"""Of a probability from predictions.csv, on so many test images; float32 differs by some 1e-6."""
MOST_TEXT = 500
"""A parameter of a logged model holds so many characters."""
REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
_DIGEST, _DIFFERENCE = "thaw.model_sha256", "thaw.largest_difference"
_VERSIONS = "mlflow.modelVersions"
_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("binary", "image")]),
    outputs=Schema(
        [ColSpec("string", "class"), ColSpec("double", "probability"), ColSpec(Map("double"), "probabilities")]
    ),
)


class UnlikePredictionsError(ThawError):
    """A model says something else than predictions.csv."""

    def __init__(self, cell: Cell, difference: float) -> None:
        super().__init__(f"{cell}: a probability differs by {difference:.1g} from predictions.csv")
        self.difference = difference


def log_model(client: MlflowClient, run_id: str, cell: Cell, *, uri: str) -> str | None:
    """Make the model of an evaluated cell stand in the Models tab, under the run `run_id`; returns the model's id.

    One that stands there whole is left as it is. None: no graph of this architecture was exported yet, which takes
    torch half a minute (`network.onnx_export.onnx_model` does it).

    Raises:
        UnlikePredictionsError: the model, which computes in float32, says something else than predictions.csv; so where
            that is of compute.precision: bfloat16.
        DataError: a file is missing.
    """
    digest, run = _digest(cell), client.get_run(run_id)
    experiment_id = run.info.experiment_id
    for found in client.search_logged_models([experiment_id], f"tags.`{_DIGEST}` = '{digest}'"):
        if found.source_run_id == run_id and _is_whole(client, found):
            if not _tags_of(run).items() <= found.tags.items():
                client.set_logged_model_tags(str(found.model_id), _tags_of(run))
            return str(found.model_id)
        client.delete_logged_model(found.model_id)
    network = find_onnx(cell.model)
    if network is None:
        return None
    card = read_model_card(cell.model)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "network.onnx"
        onnx.save(network, file)
        difference = _difference_from_predictions(cell, file)
        if not difference <= MOST_DIFFERENCE:
            raise UnlikePredictionsError(cell, difference)
        made = client.create_logged_model(
            experiment_id,
            name=str(cell),
            source_run_id=run_id,
            tags={
                **_tags_of(run),
                _DIGEST: digest,
                _DIFFERENCE: f"{difference:.1e}",
                "variant": cell.variant,
                "seed": str(cell.seed),
            },
            params={"backbone": card.backbone.name, "classes": ", ".join(card.classes)[:MOST_TEXT]},
        )
        Model.log(
            artifact_path=None,
            name=str(cell),
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=made.model_id,
            python_model=served_classifier.__file__,
            artifacts={"network": str(file)},
            signature=_SIGNATURE,
            input_example=pd.DataFrame({"image": [_draw_example()]}),
            pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
            metadata={"classes": list(card.classes)},
        )
    return str(made.model_id)


def register_champion(client: MlflowClient, model_id: str, *, run_id: str, cell: Cell) -> None:
    """Let the alias `champion` of the registered model `thaw` name a logged model."""
    try:
        aliases = client.get_registered_model(REGISTERED).aliases
    except MlflowException:
        client.create_registered_model(REGISTERED, description="The models that thaw's reports recommended.")
        aliases = {}
    source = f"models:/{model_id}"  # a SQL store keeps no id of the model beside it
    versions = client.search_model_versions(f"name = '{REGISTERED}'")
    version = next((known for known in versions if known.source == source), None) or client.create_model_version(
        REGISTERED,
        source,
        run_id,
        model_id=model_id,
        description=f"{cell}: of the recommended recipe, the seed with the lowest loss on val.",
    )
    # As MLflow's own call notes it; the Models tab reads it there.
    noted = json.dumps([{"name": REGISTERED, "version": int(version.version)}])
    if client.get_logged_model(model_id).tags.get(_VERSIONS) != noted:
        client.set_logged_model_tags(model_id, {_VERSIONS: noted})
    if str(aliases.get(CHAMPION)) != str(version.version):
        client.set_registered_model_alias(REGISTERED, CHAMPION, version.version)


def _digest(cell: Cell) -> str:
    """Of the model, and of the code that goes with it."""
    files = (cell.model / model_card.NAME, cell.model / TENSORS, Path(served_classifier.__file__))
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def _tags_of(run: Run) -> dict[str, str]:
    """The description of a run, and who made it: its model has the same."""
    return {key: run.data.tags[key] for key in (NOTE, "mlflow.user") if key in run.data.tags}


def _is_whole(client: MlflowClient, model: LoggedModel) -> bool:
    """Whether its files are there, too; nobody writes the last ones but at the end."""
    if model.status != "READY":
        return False
    names = {file.path.rpartition("/")[2] for file in client.list_logged_model_artifacts(model.model_id)}
    inner = {file.path.rpartition("/")[2] for file in client.list_logged_model_artifacts(model.model_id, "artifacts")}
    return "MLmodel" in names and "network.onnx" in inner


def _difference_from_predictions(cell: Cell, network: Path) -> float:
    """How far the code that is logged, run here, is from what evaluation wrote, on some test images."""
    expected = read_predictions(cell.predictions, classes=read_model_card(cell.model).classes)
    rows = range(0, len(expected.paths), max(1, len(expected.paths) // CHECKED))[:CHECKED]
    classifier = served_classifier.ImageClassifier()
    classifier.load_context(SimpleNamespace(artifacts={"network": str(network)}))
    with ImageZip(IMAGES) as images:
        found = classifier.predict_probabilities([images.read(expected.paths[row]) for row in rows])
    return float(np.abs(found - expected.probabilities[list(rows)]).max())


def _draw_example() -> bytes:
    """A small PNG in two colours."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (48, 1)), np.full((48, 64), 128, np.uint8), np.tile(ramp[::-1], (48, 1))], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
