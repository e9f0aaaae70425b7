"""Which store is meant, whether anybody answers there, and that no password is shown.

Run with: pytest tests/tracking/test_location.py
"""

import socket
import threading
from pathlib import Path

import pytest

from loopback import Reply, serving
from thaw.tracking import location
from thaw.tracking.location import (
    StoreError,
    artifacts_of,
    database_of,
    project_root,
    require_answer,
    tracking_uri,
    without_password,
)


def complaint(uri: str) -> str:
    with pytest.raises(StoreError) as caught:
        require_answer(uri)
    return str(caught.value)


def test_the_store_of_a_temporary_experiment_is_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert project_root() == tmp_path
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/my.db")
    assert artifacts_of(tracking_uri()) == tmp_path / "runs/mlartifacts"


def test_the_options_of_a_sqlite_address_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///file:my.db?mode=ro&uri=true")
    assert tracking_uri() == f"sqlite:///file:{tmp_path}/my.db?mode=ro&uri=true"
    assert database_of(tracking_uri()) == tmp_path / "my.db"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host:1/runs", "postgresql://me:***@host:1/runs"),
        ("http://me@firm:se:c#r/e@t@host", "http://me@firm:***@host"),
        ("to http://me:secret@host/api failed", "to http://me:***@host/api failed"),
        (
            "postgresql://host/runs?user=me&password=secret&sslmode=off",
            "postgresql://host/runs?user=me&password=***&sslmode=off",
        ),
        ("http://host:5000/a", "http://host:5000/a"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_no_password_is_shown(text: str, shown: str) -> None:
    assert without_password(text) == shown


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:se#cret@host",
        "http://me:se/cret@host",
        "http://host:se",
        "http://[::1",
        "postgresql://me:se/cret@host",
    ],
)
def test_an_address_that_is_none(uri: str) -> None:
    said = complaint(uri)
    assert said.startswith(f"{without_password(uri)} is no address; in a name or password, write / ? # @ as %2F")
    assert "cret" not in said


def test_whoever_asks_for_a_password_is_there() -> None:
    with serving(lambda _: Reply(401)) as server:
        require_answer(f"http://me:p%40ss@127.0.0.1:{server.port}/")
        assert [request.path for request in server.requests] == ["/health"]


def test_what_is_no_web_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        greeter = threading.Thread(target=greet)
        greeter.start()
        said = complaint(f"http://127.0.0.1:{listener.getsockname()[1]}")
        greeter.join()
    assert said.endswith(" is no MLflow: what answers there does not speak HTTP")


def test_a_resolver_of_names_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def say_nothing(*_: object, **__: object) -> None:
        ended.wait()
        raise socket.gaierror

    monkeypatch.setattr(location, "ANSWER_S", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", say_nothing)
    assert "http://host gives no answer within" in complaint("http://host")
    ended.set()
