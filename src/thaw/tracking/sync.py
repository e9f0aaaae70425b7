"""All that DVC's outputs hold, into MLflow: cells, and the pipeline's state as their parent."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient

from thaw.params import Params
from thaw.paths import COMPARISON_JSON, Cell, ExternalSet, all_cells, all_external_sets
from thaw.tracking.content import (
    RunContent,
    cell_content,
    is_evaluated,
    is_evaluated_on,
    is_trained,
    pipeline_content,
    reported_cells,
    winner,
)
from thaw.tracking.live import LiveRuns
from thaw.tracking.location import Shown, tracking_uri
from thaw.tracking.mlflow_models import CHAMPION, UnlikePredictionsError, log_model, register_champion
from thaw.tracking.runs import delete_interrupted, show
from thaw.tracking.saved_view import address_of_view, save_view
from thaw.tracking.store import Beat, connect, exclusive, explained, open_experiment
from thaw.utils.atomic import read_json
from thaw.utils.dvc_lock import Stages, read_dvc_lock
from thaw.utils.words import enumerate_words


def show_all(params: Params, beat: Beat, *, with_report: bool = True) -> Shown:
    """Make MLflow show all cells of `params` that are trained, and nothing of what was interrupted.

    Args:
        params: whose cells.
        beat: see `store`.
        with_report: whether what lies in reports/ is of these cells, if its numbers are.

    Raises:
        StoreError: the store does not take it.
        DataError: a file is missing, or is something else.
    """
    stages, cells = read_dvc_lock(), all_cells(params)
    report = read_json(COMPARISON_JSON) if with_report and COMPARISON_JSON.exists() else None
    reported = reported_cells(report, cells)
    contents = {
        cell: cell_content(
            cell,
            stages=stages,
            evaluated=is_evaluated(cell, stages),
            external=[name for name in all_external_sets(params) if is_evaluated_on(name, cell, stages)],
            report=report if cell in reported else None,
        )
        for cell in cells
        if is_trained(cell)
    }
    with explained():
        client = connect(beat)
        with exclusive(beat):
            experiment_id = open_experiment(client, params.tracking.experiment)
            delete_interrupted(client, experiment_id)
        parent, saved_ms = None, max((content.ended_ms for content in contents.values()), default=0)
        # While a cell is trained again, DVC has removed its model, and its old scores still stand.
        if report is not None and list(contents) == reported == cells:
            whole = pipeline_content(params, contents=contents, report=report)
            with exclusive(beat):
                parent = show(client, experiment_id, whole)
        runs = {
            str(cell): _show(client, experiment_id, cell, content, beat=beat, parent=parent)
            for cell, content in contents.items()
        }
        with exclusive(beat):
            save_view(client, experiment_id, parent=parent, saved_ms=saved_ms)
        return Shown(runs, address_of_view(experiment_id, uri=tracking_uri()))


def show_models(params: Params, runs: Mapping[str, str], beat: Beat, *, champion: Cell | None) -> str:
    """Make the models of all evaluated cells stand in MLflow, and name the recommended one its champion.

    Args:
        params: whose cells.
        runs: the cells' names -> the ids of their runs.
        beat: see `store`.
        champion: the recommended one, if there is a report.

    Returns:
        Which models are left out, why, and what to do; nothing if none is.

    Raises:
        StoreError: the store does not take it.
        DataError: a file is missing, or is something else.
    """
    unlike: dict[Cell, float] = {}
    stages, report = read_dvc_lock(), read_json(COMPARISON_JSON) if COMPARISON_JSON.exists() else None
    reported = reported_cells(report, all_cells(params))
    with explained():
        client = connect(beat)
        for cell in all_cells(params):
            if str(cell) not in runs or not is_evaluated(cell, stages):
                continue
            run_id = runs[str(cell)]
            with exclusive(beat):
                try:
                    model_id = log_model(client, run_id, cell, uri=tracking_uri())
                except UnlikePredictionsError as error:
                    unlike[cell] = error.difference
                    continue
                if model_id is not None and cell == champion and cell in reported:
                    register_champion(client, model_id, run_id=run_id, cell=cell)
    return _describe_left_out(unlike, champion=champion, stages=stages) if unlike else ""


def _describe_left_out(unlike: Mapping[Cell, float], *, champion: Cell | None, stages: Stages) -> str:
    cells = enumerate_words([str(cell) for cell in unlike])
    compute = stages[f"evaluate@{next(iter(unlike))}"].get("params", {}).get("params.yaml", {}).get("compute", {})
    precision = compute.get("precision", "float32")
    made_by = "predictions.csv" if precision == "float32" else f"predictions.csv, which {precision} made"
    alias = f"; `{CHAMPION}` stays what it was, since {champion} is one of them" if champion in unlike else ""
    remedy = "evaluate them again" if precision == "float32" else "set `compute.precision: float32`"
    return (
        f"MLflow shows no model of {cells}: models compute in float32 there, and probabilities differ by up to "
        f"{max(unlike.values()):.1g} from {made_by}{alias}; {remedy}, or write files by `thaw export`"
    )


def show_cell(
    client: MlflowClient,
    experiment_id: str,
    cell: Cell,
    *,
    stages: Stages,
    beat: Beat,
    compute: Mapping[str, Any] | None = None,
    evaluated: bool = False,
    external: Sequence[ExternalSet] = (),
    live: LiveRuns | None = None,
) -> str:
    """Make MLflow show one cell, whose live run becomes its run; see `content.cell_content`."""
    content = cell_content(cell, stages=stages, compute=compute, evaluated=evaluated, external=external)
    return _show(client, experiment_id, cell, content, beat=beat, live=live)


def _show(
    client: MlflowClient,
    experiment_id: str,
    cell: Cell,
    content: RunContent,
    *,
    beat: Beat,
    parent: str | None = None,
    live: LiveRuns | None = None,
) -> str:
    adopt, rows = None, 0
    if live is not None:
        chosen = winner(cell)
        adopt, rows = live.run_ids.get(chosen), live.rows[chosen]
        live.keep(chosen)
    with exclusive(beat):
        return show(client, experiment_id, content, adopt=adopt, rows=rows, parent=parent)
