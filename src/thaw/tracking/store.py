"""The open store: its experiment, its lock, and what its drivers raise, in one sentence."""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.store.db import utils as database_utils

from thaw.errors import ThawError, one_line
from thaw.paths import MLFLOW_LOCK
from thaw.tracking.location import StoreError, artifacts_of, database_of, project_root, tracking_uri, without_password

LOCK_S = 60
"""How long to wait for other processes that write to the same store."""

Beat = Callable[[], None]
"""Called whenever something has been done: whoever waits may go on waiting."""


def connect(beat: Beat) -> MlflowClient:
    """Open the store of `tracking_uri`, which is made if there is none.

    Raises:
        StoreError: it does not answer, or cannot be used.
    """
    # MLflow's defaults hang for four minutes when a server is gone, and for two when a database is.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    os.environ.setdefault("PGCONNECT_TIMEOUT", "3")
    database_utils.MAX_RETRY_COUNT = 1
    # What they have to say is in the error; tracebacks of retries are for nobody.
    for name in ("mlflow", "alembic", "sqlalchemy", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with explained():
        # Processes that open a fresh SQLite store at once break it for good.
        with exclusive(beat):
            client = MlflowClient(tracking_uri())
            client.search_experiments(max_results=1)
        beat()
        return cast(MlflowClient, _Beating(client, beat))


class _Beating:
    """A client that beats after each call."""

    def __init__(self, client: MlflowClient, beat: Beat) -> None:
        self._client, self._beat = client, beat

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self._beat()
            return result

        return call


@contextmanager
def exclusive(beat: Beat) -> Iterator[None]:
    """One process at a time: beside a SQLite file all that use it, else those of this project.

    Raises:
        StoreError: another one does not end.
    """
    database = database_of(tracking_uri())
    path = project_root() / MLFLOW_LOCK if database is None else database.with_name(f"{database.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    for _ in range(LOCK_S):
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            beat()
    else:
        raise StoreError(f"another process has held {path} for {LOCK_S} s; stop it, and run `thaw sync`")
    try:
        yield
    finally:
        lock.release()


def open_experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment: made if there is none, restored if it was deleted, its artifacts where they belong."""
    found: Experiment | None = client.get_experiment_by_name(name)
    belongs = artifacts_of(tracking_uri())
    if found is None:
        # The UI is another one for language models, and takes what does not say so for one.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, None if belongs is None else belongs.as_uri(), tags=kind))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if belongs is not None:
        relocate(belongs, found.artifact_location)
    return str(found.experiment_id)


def relocate(belongs: Path, location: str) -> None:
    """Say in the SQLite file beside `belongs` that what it says to be in `location` is in `belongs`.

    The addresses of artifacts are absolute, and MLflow has no call that changes them: in a project that was moved or
    copied, new ones would go to where it was. Only addresses that this project has chosen are changed.
    """
    database, new = database_of(tracking_uri()), belongs.as_uri()
    if database is None or location == new or not re.fullmatch(r"(file://)?/.*/mlartifacts", location):
        return
    columns = {
        "experiments": ("artifact_location",),
        "runs": ("artifact_uri",),
        "logged_models": ("artifact_location",),
        "model_versions": ("source", "storage_location"),
    }
    with closing(sqlite3.connect(database, timeout=LOCK_S)) as connection, connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in columns.keys() & known:
            for column in columns[table]:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (new, len(location) + 1, len(location) + 1, f"{location}/"),
                )
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (new, location))


@contextmanager
def explained() -> Iterator[None]:
    """Whatever a store raises in the block, as a StoreError."""
    try:
        yield
    except ThawError:
        raise
    except Exception as error:  # MLflow's stores raise whatever their drivers do
        raise StoreError(explain(error)) from error


def explain(error: Exception) -> str:
    """The reason in words, with a remedy where there is one of its own."""
    uri, text = tracking_uri(), without_password(str(error))
    shown = without_password(uri)
    if "out-of-date database schema" in text:
        named = uri if shown == uri else '"$MLFLOW_TRACKING_URI"'
        return f"{shown} was made by an older MLflow: copy it, then run `mlflow db upgrade {named}`"
    if isinstance(error, ModuleNotFoundError):
        return f"{shown} needs the Python package {error.name}, which is not installed"
    if "Can't locate revision" in text:
        return f"{shown} was made by a newer MLflow: install that one, or name another store by MLFLOW_TRACKING_URI"
    if "timed out" in text or "timeout exception" in text:
        return f"{shown} gives no answer within {os.environ['MLFLOW_HTTP_REQUEST_TIMEOUT']} s"
    if "error code 401" in text:
        where = "MLFLOW_TRACKING_URI, or in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return f"{shown} wants another name and password (401): put them in {where}"
    if refused := re.search(r"Connection refused|Connection reset|Connection aborted|Name or service not known", text):
        return f"{shown}: {refused[0].lower()}"
    # SQLAlchemy goes on with the statement and a link to its documentation.
    reason = re.split(r"\[SQL:|\(Background on this error", text)[0]
    reason = re.sub(r"\(raised as a result of [^)]*\)\s+", "", reason)
    reason = re.sub(r"\((sqlite3|psycopg2?|pymysql)\.\w+(\.\w+)*\) ", "", reason)
    return f"{shown}: {one_line(type(error)(reason) if isinstance(error, OSError) else Exception(reason), most=300)}"
