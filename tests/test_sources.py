"""Every `data.source` ends in the right archive, or in one clear sentence and no file.

Run with `pytest tests/test_sources.py`.
"""

import hashlib
import io
import random
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import Server, serve_file, serving
from thaw import download
from thaw.errors import DataError
from thaw.params import DataParams, Params, PinnedParams, load_params
from thaw.sources import fetch_archive

NOISE = random.Random(0).randbytes(50_000)


def make_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("PetImages/Cat/0.jpg", NOISE)
    return packed.getvalue()


def make_tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        info.size = len(NOISE)
        archive.addfile(info, io.BytesIO(NOISE))
    return packed.getvalue()


ZIP, TAR = make_zip(), make_tar()


@pytest.fixture
def params() -> Params:
    return load_params()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(lambda request: serve_file(request, ZIP)) as running:
        yield running


def fetch(tmp_path: Path, params: Params, **changes: object) -> bytes:
    data = params.data.model_copy(update={"timeout_s": 5.0, "attempts": 2, **changes})
    destination = tmp_path / "raw" / "archive"
    fetch_archive(destination, data=data, sample=params.sample, partials=tmp_path / "partials")
    assert [path.name for path in destination.parent.iterdir()] == ["archive"]
    return destination.read_bytes()


def refusal(tmp_path: Path, params: Params, **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        fetch(tmp_path, params, **changes)
    assert not (tmp_path / "raw").exists() or not any((tmp_path / "raw").iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pin(url: str, content: bytes) -> PinnedParams:
    return PinnedParams(url=url, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_sample_is_drawn(tmp_path: Path, params: Params) -> None:
    few = params.model_copy(update={"sample": params.sample.model_copy(update={"pictures_per_class": 20})})
    drawn = fetch(tmp_path, few, source="sample")
    with zipfile.ZipFile(io.BytesIO(drawn)) as archive:
        assert any(name.startswith("PetImages/Cat/") for name in archive.namelist())


@pytest.mark.parametrize("source", ["file", "cifar10"])
@pytest.mark.parametrize("content", [ZIP, TAR], ids=["zip", "tar.gz"])
def test_an_archive_on_disk_is_copied_and_left_alone(
    tmp_path: Path, params: Params, source: str, content: bytes
) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(content)
    mine.chmod(0o640)
    assert fetch(tmp_path, params, source=source, path=str(mine)) == content
    (tmp_path / "raw" / "archive").chmod(0o444)  # as DVC does with its outputs
    assert mine.stat().st_mode & 0o777 == 0o640
    assert mine.read_bytes() == content


def test_a_missing_archive_is_one_sentence(tmp_path: Path, params: Params) -> None:
    sentence = refusal(tmp_path, params, source="file", path=str(tmp_path / "gone.zip"))
    assert sentence == f"the archive {tmp_path}/gone.zip does not exist; correct data.path in params.yaml"


def test_a_folder_is_no_archive(tmp_path: Path, params: Params) -> None:
    assert f"{tmp_path} is not a file" in refusal(tmp_path, params, source="file", path=str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"<html>404</html>", NOISE, ZIP[:-30], ZIP[:4], TAR[:20], b"\x1f\x8b" + NOISE],
    ids=["empty", "two bytes", "HTML", "noise", "zip without end", "zip head", "cut tar.gz", "gzip magic, then noise"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, params: Params, content: bytes) -> None:
    (tmp_path / "mine").write_bytes(content)
    assert str(tmp_path / "mine") in refusal(tmp_path, params, source="file", path=str(tmp_path / "mine"))


def test_a_full_disk_is_noticed_before_copying(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_bytes(ZIP)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    assert "10 bytes free" in refusal(tmp_path, params, source="file", path=str(tmp_path / "mine"))


def test_url_with_its_hash(server: Server, tmp_path: Path, params: Params) -> None:
    changes = {"source": "url", "url": f"{server.url}/cats.zip"}
    assert fetch(tmp_path, params, **changes, sha256=hashlib.sha256(ZIP).hexdigest()) == ZIP


def test_url_with_another_hash(server: Server, tmp_path: Path, params: Params) -> None:
    sentence = refusal(tmp_path, params, source="url", url=server.url, sha256="0" * 64)
    assert "0" * 64 in sentence
    assert hashlib.sha256(ZIP).hexdigest() in sentence


def test_url_without_a_hash_has_its_checksums_compared(server: Server, tmp_path: Path, params: Params) -> None:
    assert fetch(tmp_path, params, source="url", url=server.url) == ZIP
    (tmp_path / "raw" / "archive").unlink()
    contents = [ZIP.replace(NOISE, NOISE[:-1] + b"?"), TAR[:20_000] + b"?" + TAR[20_001:], b"<html>login</html>"]
    server.answer = lambda request: serve_file(request, contents[0])
    while contents:
        assert server.url in refusal(tmp_path, params, source="url", url=server.url)
        contents.pop(0)


@pytest.mark.parametrize("source", ["microsoft", "cifar10"])
def test_a_pinned_archive_is_compared_with_its_pin(server: Server, tmp_path: Path, params: Params, source: str) -> None:
    assert fetch(tmp_path, params, source=source, **{source: pin(server.url, ZIP)}) == ZIP
    (tmp_path / "raw" / "archive").unlink()
    other = ZIP[:-1] + b"?"
    assert "SHA-256" in refusal(tmp_path, params, source=source, **{source: pin(server.url, other)})
    assert "bytes" in refusal(tmp_path, params, source=source, **{source: pin(server.url, ZIP + b"?")})


def test_the_pins_are_those_of_the_public_archives(params: Params) -> None:
    def known(data: DataParams) -> list[tuple[str, int, str]]:
        return [(pin.url.rpartition("/")[2], pin.bytes, pin.sha256[:8]) for pin in (data.microsoft, data.cifar10)]

    assert known(params.data) == [
        ("kagglecatsanddogs_5340.zip", 824_887_076, "b7974bd0"),
        ("cifar-10-python.tar.gz", 170_498_071, "6d958be0"),
    ]
