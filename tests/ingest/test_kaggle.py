"""The official Kaggle client against a server on this machine that speaks its protocol.

Run with `pytest tests/ingest/test_kaggle.py`. The client runs in a process of its own (some two seconds a test).
"""

import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from conftest import load_source
from loopback import Answer, Reply, Request, Server, serve_file, serving
from thaw.errors import DataError
from thaw.ingest import download
from thaw.ingest import kaggle as kaggle_client
from thaw.ingest.download import Remote
from thaw.ingest.kaggle import fetch_kaggle
from thaw.params import KaggleSource

DATASET = "shaunthesheep/microsoft-catsvsdogs-dataset"
ASK = "/api/v1/datasets.DatasetApiService/DownloadDataset"
INTROSPECT = "/api/v1/security.OAuthService/IntrospectToken"


def zip_of_noise() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("PetImages/Cat/0.jpg", random.Random(0).randbytes(100_000))
    return packed.getvalue()


ARCHIVE = zip_of_noise()


def kaggle(file: Answer, *, active: bool = True) -> Answer:
    """What Kaggle's server says; `file` answers for the host that holds the archives."""

    def answer(request: Request) -> Reply:
        json = {"Content-Type": "application/json"}
        if request.path == INTROSPECT:
            return Reply(200, b'{"active": true, "username": "me"}' if active else b'{"active": false}', json)
        if request.path == ASK:
            return Reply(302, b"", {"Location": "http://127.0.0.1/files/archive.zip?signature=secret"})
        return file(request)

    return answer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Kaggle: a server that the client reaches as its proxy. No credentials of this machine's user are seen."""
    with serving(kaggle(lambda request: serve_file(request, ARCHIVE))) as running:
        for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_API_TOKEN": "a-token",
            "HTTP_PROXY": running.url,
            "http_proxy": running.url,
            "HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(download, "FIRST_WAIT_S", 0.0)
        yield running


@pytest.fixture
def data() -> KaggleSource:
    return load_source(KaggleSource).model_copy(update={"timeout_s": 5.0, "attempts": 2})


def refusal(tmp_path: Path, data: KaggleSource) -> str:
    destination = tmp_path / "raw" / "archive"
    with pytest.raises(DataError) as caught:
        fetch_kaggle(destination, data=data, partials=tmp_path / "partials")
    assert not destination.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_download_by_way_of_the_client_is_resumed(server: Server, tmp_path: Path, data: KaggleSource) -> None:
    cuts = [None, 30_000, 20_000, None]  # the client's own GET comes first

    server.answer = kaggle(lambda request: serve_file(request, ARCHIVE, cut=cuts.pop(0)))
    fetch_kaggle(tmp_path / "archive", data=data, partials=tmp_path / "partials")
    assert (tmp_path / "archive").read_bytes() == ARCHIVE
    assert [request.path for request in server.requests if request.method == "POST"][-1] == ASK
    files = [request for request in server.requests if request.method == "GET"]
    assert [request.headers.get("range") for request in files] == [None, None, "bytes=30000-", "bytes=50000-"]
    assert not any((tmp_path / "partials").iterdir())


def test_without_a_token_one_sentence_says_where_to_put_it(
    server: Server,
    tmp_path: Path,
    data: KaggleSource,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    sentence = refusal(tmp_path, data)
    assert "~/.kaggle/access_token" in sentence
    assert "microsoft, which needs none" in sentence
    assert capfd.readouterr().out == ""


def test_a_token_that_kaggle_does_not_know_gives_the_same_sentence(
    server: Server, tmp_path: Path, data: KaggleSource
) -> None:
    server.answer = kaggle(lambda _: Reply(404), active=False)
    assert "~/.kaggle/access_token" in refusal(tmp_path, data)


def test_a_refused_data_set_gives_the_status(server: Server, tmp_path: Path, data: KaggleSource) -> None:
    server.answer = lambda request: Reply(403) if request.path == ASK else kaggle(lambda _: Reply(404))(request)
    sentence = refusal(tmp_path, data)
    assert f"Kaggle refused {DATASET} (403" in sentence
    assert "~/.kaggle/access_token" in sentence


def test_flipped_bytes_that_the_client_accepts_are_found(server: Server, tmp_path: Path, data: KaggleSource) -> None:
    flipped = bytearray(ARCHIVE)
    flipped[50_000] ^= 1
    server.answer = kaggle(lambda request: serve_file(request, bytes(flipped)))
    sentence = refusal(tmp_path, data)
    assert "http://127.0.0.1/files/archive.zip is damaged" in sentence
    assert "secret" not in sentence
    assert "PetImages/Cat/0.jpg" in sentence
    assert not any((tmp_path / "partials").iterdir())


def test_a_server_that_never_answers_is_given_up(
    server: Server, tmp_path: Path, data: KaggleSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle_client, "START_UP_S", 3.0)
    server.answer = lambda _: Reply(200, b"", {"Content-Length": "100"}, then="stall")
    sentence = refusal(tmp_path, data.model_copy(update={"timeout_s": 0.5, "attempts": 1}))
    assert "silent for 3.5 s" in sentence
    assert "microsoft" in sentence


def test_a_kaggle_in_trouble_is_asked_again(
    tmp_path: Path, data: KaggleSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def in_trouble(dataset: str, *, limit_s: float) -> Remote:
        asked.append(dataset)
        response = requests.Response()
        response.status_code = 503
        raise kaggle_client.explain_refusal(dataset, requests.HTTPError(response=response))

    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(kaggle_client, "_locate", in_trouble)
    assert "it answered 503, 2 times in a row" in refusal(tmp_path, data)
    assert asked == [DATASET, DATASET]
