"""Whether MLflow is in line with DVC's outputs already, found out without MLflow, whose import alone takes seconds.

After `thaw sync` has compared all, it notes what lies here and what the SQLite file and the folders of artifacts hold;
while both are as noted, there is nothing to do. For other stores only MLflow itself can tell.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from thaw import paths
from thaw.params import Params
from thaw.paths import MLFLOW_IN_LINE, all_cells, all_external_sets
from thaw.tracking.location import Shown, database_of, tracking_uri
from thaw.utils.atomic import read_json, write_json
from thaw.utils.dvc_lock import LOCK


def shown_in_line(params: Params) -> Shown | None:
    """What MLflow shows, if all is as it was when that was last noted; else None."""
    try:
        noted = read_json(MLFLOW_IN_LINE)
        shown = Shown(**noted["shown"])
        same = noted["here_sha256"] == hash_here(params) and noted["there_sha256"] == _hash_there(shown.runs.values())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shown if same else None


def note_in_line(here_sha256: str, shown: Shown) -> None:
    """Note what lies here and there, after the two were compared.

    Args:
        here_sha256: what `hash_here` returned before they were: a stage may have ended since.
        shown: what the comparison ended with.
    """
    there = _hash_there(shown.runs.values())
    if there is None:
        MLFLOW_IN_LINE.unlink(missing_ok=True)
    else:
        write_json(MLFLOW_IN_LINE, {"shown": shown._asdict(), "here_sha256": here_sha256, "there_sha256": there})


def hash_here(params: Params) -> str:
    """Of the code that fills MLflow, the address, the parameters, and the names, sizes and times of all outputs."""
    digest = hashlib.sha256(f"{tracking_uri()}\n{params.model_dump_json()}\n".encode())
    for path in [LOCK, *sorted(Path(__file__).parent.glob("*.py"))]:
        digest.update(path.read_bytes() if path.exists() else b"")
    cells = all_cells(params)
    outputs = [path for cell in cells for path in (cell.model, cell.history, cell.cost, cell.predictions, cell.metrics)]
    outputs += [
        path
        for external in all_external_sets(params)
        for cell in cells
        for path in (external.metrics(cell), external.predictions(cell))
    ]
    outputs += [paths.SPLITS, paths.COMPARISON_JSON, paths.COMPARISON_HTML, paths.COMPARISON_MD, paths.FIGURES]
    _add_files(digest, outputs, with_time=True)
    return digest.hexdigest()


def _hash_there(run_ids: Iterable[str]) -> str | None:
    """Of all that a SQLite store holds of these runs and of their parents; None for other stores, or if it is gone."""
    database = database_of(tracking_uri())
    if database is None or not database.exists():
        return None
    digest = hashlib.sha256()
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for row in _rows(connection, tables, list(run_ids)):
                digest.update(repr(row).encode())
                folders = [value for value in row if isinstance(value, str) and value.startswith("file://")]
                _add_files(digest, [Path(unquote(urlsplit(folder).path)) for folder in folders], with_time=False)
    except (sqlite3.Error, OSError):
        return None
    return digest.hexdigest()


def _rows(connection: sqlite3.Connection, tables: set[str], run_ids: list[str]) -> Iterator[tuple[object, ...]]:
    """All rows of MLflow's tables that say something of the runs, of the experiments, and of registered models."""
    cells = ", ".join("?" * len(run_ids))
    parents = connection.execute(
        f"SELECT DISTINCT value FROM tags WHERE key = 'mlflow.parentRunId' AND run_uuid IN ({cells})",  # noqa: S608
        run_ids,
    )
    ids = [*run_ids, *sorted(value for (value,) in parents)]
    which = f"WHERE run_uuid IN ({', '.join('?' * len(ids))})"
    yield from connection.execute("SELECT * FROM alembic_version")
    yield from connection.execute("SELECT experiment_id, lifecycle_stage, artifact_location FROM experiments")
    yield from connection.execute(
        "SELECT * FROM experiment_tags WHERE key LIKE 'mlflow.sharedViewState.%' ORDER BY 1, 2"
    )
    for table in ("runs", "tags", "params", "latest_metrics"):
        yield from connection.execute(f"SELECT * FROM {table} {which} ORDER BY run_uuid, 2", ids)  # noqa: S608
    yield from connection.execute(f"SELECT run_uuid, count(*) FROM metrics {which} GROUP BY run_uuid", ids)  # noqa: S608
    for table in sorted(tables & {"logged_models", "registered_models", "model_versions", "registered_model_aliases"}):
        yield from connection.execute(f"SELECT * FROM {table}")  # noqa: S608


def _add_files(digest: "hashlib._Hash", roots: Iterable[Path], *, with_time: bool) -> None:
    """Add names and sizes of all files below `roots`."""
    for root in roots:
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
        for path in files:
            stat = path.stat() if path.exists() else None
            facts = (stat.st_size, stat.st_mtime_ns if with_time else 0) if stat is not None else ()
            digest.update(f"{path} {facts}\n".encode())
