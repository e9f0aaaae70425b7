"""The list of runs and their charts as one compares them, saved in MLflow: it opens at an address of its own.

As it comes, MLflow's list of runs has no column with a metric, a parent run hides its children, and the charts of all
metrics stand in the order of their names. What a person chooses instead can be saved as a tag of the experiment (the
button "Save view" does that); this module writes one. MLflow documents no field of it: they are those of
`ExperimentPageUIState` and `RunsChartsCardConfig` in the source of its UI.
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
    columns = [_column(name) for name in WIDTHS_PX]
    state = {
        "searchFilter": "" if parent is None else f"tags.`{PARENT}` = '{parent}'",
        "orderByKey": columns[0],
        "orderByAsc": False,
        "selectedColumns": [*columns, "attributes.`Models`"],
        "columnOrder": columns,
        "columnWidths": dict(zip(columns, WIDTHS_PX.values(), strict=True)),
        "runsHiddenMode": "SHOW_ALL",
        **_charts(),
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


def _charts() -> dict[str, object]:
    """What decides comes first, then how it came about, then what it cost.

    To the last two sections MLflow itself adds a chart for each other metric; closed, they ask the server for nothing.
    """
    sections = {
        "Test": [_bar("test_accuracy"), _scatter("cost_train_tflop", "test_accuracy"), _bar("test_log_loss")],
        "Curves": [_curve("val_accuracy"), _curve("val_loss"), _curve("train_loss")],
        "Cost": [_bar("cost_train_tflop"), _bar("system/train_seconds"), _bar("system/peak_memory_mib")],
        "Model metrics": [],
        "System metrics": [],
    }
    return {
        # A generated chart that a person deletes is not added again.
        "compareRunCharts": [
            {"uuid": f"{name} {number}", "metricSectionId": name, "isGenerated": True, **chart}
            for name, charts in sections.items()
            for number, chart in enumerate(charts)
        ],
        # In a section that was not reordered by hand MLflow puts new charts by name between the others.
        "compareRunSections": [
            {"uuid": name, "name": name, "display": bool(charts), "isReordered": True, "isGenerated": True}
            for name, charts in sections.items()
        ],
        "isAccordionReordered": True,
    }


def _bar(metric: str) -> dict[str, object]:
    """One number a run."""
    return {"type": "BAR", "metricKey": metric}


def _scatter(x: str, y: str) -> dict[str, object]:
    """One number against another, a point a run."""
    return {"type": "SCATTER", "xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}


def _curve(metric: str) -> dict[str, object]:
    """Over the steps, as they are: what does not say so is smoothed."""
    return {"type": "LINE", "metricKey": metric, "lineSmoothness": 0, "useGlobalXaxisKey": True}
