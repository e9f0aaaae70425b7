"""The list of runs as one compares them, saved in MLflow for everybody: it opens at an address of its own.

As it comes, MLflow's list of runs has no column with a metric, and a parent run hides its children. What a person
chooses instead can be saved as a tag of the experiment (the button "Save view" does that); this module writes one.
"""

import json

from mlflow import MlflowClient

from thaw.tracking.location import without_user
from thaw.tracking.runs import PARENT

VIEW_ID = "thaw"
TAG = f"mlflow.sharedViewState.{VIEW_ID}"
NAME = "Accuracy and cost"

WIDTHS_PX = {
    "test_accuracy": 130,
    "test_accuracy_ci95_low": 170,
    "test_accuracy_ci95_high": 170,
    "cost_train_tflop": 130,
    "system/train_seconds": 160,
    "kept_val_accuracy": 140,
}
"""The columns in their order; where none is set, MLflow sorts them by name, and cuts their names off."""

UI = "http://127.0.0.1:5000"
"""Where `make ui` shows a store that is no server."""


def save_view(client: MlflowClient, experiment_id: str, *, parent: str | None, saved_ms: int) -> None:
    """Save a view of the runs under `parent`, or of all, the most accurate first."""
    metrics = [_column(name) for name in WIDTHS_PX]
    state = {
        "searchFilter": "" if parent is None else f"tags.`{PARENT}` = '{parent}'",
        "orderByKey": metrics[0],
        "orderByAsc": False,
        "selectedColumns": [*metrics, "attributes.`Models`"],
        "columnOrder": metrics,
        "columnWidths": dict(zip(metrics, WIDTHS_PX.values(), strict=True)),
        "runsHiddenMode": "SHOW_ALL",
    }
    view = {"name": NAME, "createdAt": saved_ms, "updatedAt": saved_ms, "state": json.dumps(state)}
    value = json.dumps(view)
    if client.get_experiment(experiment_id).tags.get(TAG) != value:
        client.set_experiment_tag(experiment_id, TAG, value)


def address_of_view(experiment_id: str, *, uri: str) -> str:
    """Where a browser finds it."""
    server = without_user(uri).rstrip("/") if uri.startswith("http") else UI
    return f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW_ID}"


def _column(metric: str) -> str:
    return f"metrics.`{metric}`"
