"""Every `data.source` ends in the right archive, or in one clear sentence and no file.

Run with `pytest tests/ingest/test_sources.py`.
"""

import hashlib
import io
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import load_source
from loopback import Server, serve_file, serving
from thaw.errors import DataError
from thaw.ingest import download
from thaw.ingest.sources import check_external, check_source, fetch_archive, name_source
from thaw.params import (
    NO_FILE,
    Cifar10Source,
    DataParams,
    ExternalParams,
    FileSource,
    MicrosoftSource,
    PinnedParams,
    SampleParams,
    SampleSource,
    UrlSource,
)

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
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(lambda request: serve_file(request, ZIP)) as running:
        yield running


def fetch(tmp_path: Path, data: DataParams) -> bytes:
    destination = tmp_path / "raw" / "archive"
    few = SampleParams(images_per_class=20, seed=0)
    fetch_archive(destination, data=data, sample=few, partials=tmp_path / "partials")
    assert [path.name for path in destination.parent.iterdir()] == ["archive"]
    return destination.read_bytes()


def refusal(tmp_path: Path, data: DataParams) -> str:
    with pytest.raises(DataError) as caught:
        fetch(tmp_path, data)
    assert not (tmp_path / "raw").exists() or not any((tmp_path / "raw").iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def at(url: str, *, sha256: str | None = None) -> UrlSource:
    return UrlSource(url=url, sha256=sha256, timeout_s=5.0, attempts=2)


def cifar10_on_disk(path: str) -> Cifar10Source:
    return load_source(Cifar10Source).model_copy(update={"path": path})


def pinned(source: str, url: str, content: bytes) -> MicrosoftSource | Cifar10Source:
    pin = PinnedParams(url=url, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    if source == "microsoft":
        return MicrosoftSource(microsoft=pin, timeout_s=5.0, attempts=2)
    return Cifar10Source(path=NO_FILE, cifar10=pin, timeout_s=5.0, attempts=2)


def test_sample_is_drawn(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(fetch(tmp_path, SampleSource()))) as archive:
        assert any(name.startswith("PetImages/Cat/") for name in archive.namelist())


on_disk = pytest.mark.parametrize(
    "name", [lambda path: FileSource(path=path), cifar10_on_disk], ids=["file", "cifar10"]
)


@on_disk
@pytest.mark.parametrize("content", [ZIP, TAR], ids=["zip", "tar.gz"])
def test_an_archive_on_disk_is_copied_and_left_alone(
    tmp_path: Path, name: Callable[[str], DataParams], content: bytes
) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(content)
    mine.chmod(0o640)
    assert fetch(tmp_path, name(str(mine))) == content
    (tmp_path / "raw" / "archive").chmod(0o444)  # as DVC does with its outputs
    assert mine.stat().st_mode & 0o777 == 0o640
    assert mine.read_bytes() == content


@on_disk
def test_an_archive_on_disk_is_checked_before_any_stage_starts(
    tmp_path: Path, name: Callable[[str], DataParams]
) -> None:
    (tmp_path / "mine").write_bytes(ZIP)
    check_source(name(str(tmp_path / "mine")))
    (tmp_path / "mine").write_bytes(b"")
    with pytest.raises(DataError, match="mine"):
        check_source(name(str(tmp_path / "mine")))


@pytest.mark.parametrize("source", [SampleSource(), at("http://127.0.0.1:9"), cifar10_on_disk(NO_FILE)])
def test_of_what_is_not_on_disk_nothing_is_checked_before(source: DataParams) -> None:
    check_source(source)


def test_a_missing_archive_is_one_sentence(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, FileSource(path=str(tmp_path / "gone.zip")))
    assert sentence == f"the archive {tmp_path}/gone.zip does not exist; correct data.path in params.yaml"


def test_an_archive_that_cannot_be_looked_at_is_one_sentence(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, FileSource(path=str(tmp_path / ("x" * 300))))
    assert sentence.endswith("xx cannot be read (File name too long); correct data.path in params.yaml")


def test_a_folder_becomes_a_tar(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for name in ("Cat/2.jpg", "Cat/1.jpg", "Dog/ä.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "Dog/link.jpg").symlink_to(folder / "Cat/1.jpg")
    (folder / "Dog/gone.jpg").symlink_to(folder / "gone")
    source = FileSource(path=str(folder))
    check_source(source)
    packed = fetch(tmp_path, source)
    (folder / "Cat/1.jpg").touch()
    assert fetch(tmp_path, source) == packed  # whenever the files were written
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as package:
        files = [info.name for info in package if info.isreg()]
        contents = {name: file.read() for name in files if (file := package.extractfile(name)) is not None}
        assert package.getmember("Dog/gone.jpg").issym()
    assert contents == {
        "Cat/1.jpg": b"Cat/1.jpg",
        "Cat/2.jpg": b"Cat/2.jpg",
        "Dog/ä.jpg": "Dog/ä.jpg".encode(),
        "Dog/link.jpg": b"Cat/1.jpg",
    }


def test_a_folder_without_files_or_with_the_project_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no file" in refusal(tmp_path, FileSource(path=str(tmp_path / "empty")))
    assert "holds this project itself" in refusal(tmp_path, FileSource(path=str(tmp_path)))
    with pytest.raises(DataError, match="holds no file"):
        check_source(FileSource(path=str(tmp_path / "empty")))


def test_an_encrypted_archive_is_found_before_any_stage_starts(tmp_path: Path) -> None:
    packed = bytearray(ZIP)
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "mine.zip").write_bytes(packed)
    with pytest.raises(DataError, match=r"mine\.zip is encrypted"):
        check_source(FileSource(path=str(tmp_path / "mine.zip")))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (SampleSource(), "sample"),
        (FileSource(path="../my.zip"), "../my.zip"),
        (at("https://example.org/my.zip?token=secret"), "https://example.org/my.zip"),
        (cifar10_on_disk("cifar.tar.gz"), "cifar.tar.gz"),
    ],
)
def test_messages_name_an_archive_as_the_user_knows_it(data: DataParams, name: str) -> None:
    assert name_source(data) == name


def test_an_external_archive_is_checked_before_and_blamed_on_its_parameter(tmp_path: Path) -> None:
    (tmp_path / "web.zip").write_bytes(ZIP)
    web = ExternalParams(path=str(tmp_path / "web.zip"))
    check_external({"web": web})
    with pytest.raises(DataError) as caught:
        check_external({"web": web, "zoo": ExternalParams(path=str(tmp_path / "gone.zip"))})
    assert str(caught.value) == (
        f"the archive {tmp_path}/gone.zip does not exist; correct evaluate.external.zoo.path in params.yaml"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"<html>404</html>", NOISE, ZIP[:-30], ZIP[:4], TAR[:20], b"\x1f\x8b" + NOISE],
    ids=["empty", "two bytes", "HTML", "noise", "zip without end", "zip head", "cut tar.gz", "gzip magic, then noise"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine").write_bytes(content)
    assert str(tmp_path / "mine") in refusal(tmp_path, FileSource(path=str(tmp_path / "mine")))


def test_a_full_disk_is_noticed_before_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_bytes(ZIP)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    assert "10 bytes free" in refusal(tmp_path, FileSource(path=str(tmp_path / "mine")))


def test_url_with_its_hash(server: Server, tmp_path: Path) -> None:
    assert fetch(tmp_path, at(f"{server.url}/cats.zip", sha256=hashlib.sha256(ZIP).hexdigest())) == ZIP


def test_url_with_another_hash(server: Server, tmp_path: Path) -> None:
    sentence = refusal(tmp_path, at(server.url, sha256="0" * 64))
    assert "0" * 64 in sentence
    assert hashlib.sha256(ZIP).hexdigest() in sentence


def test_url_without_a_hash_has_its_checksums_compared(server: Server, tmp_path: Path) -> None:
    assert fetch(tmp_path, at(server.url)) == ZIP
    (tmp_path / "raw" / "archive").unlink()
    contents = [ZIP.replace(NOISE, NOISE[:-1] + b"?"), TAR[:20_000] + b"?" + TAR[20_001:], b"<html>login</html>"]
    server.answer = lambda request: serve_file(request, contents[0])
    while contents:
        assert server.url in refusal(tmp_path, at(server.url))
        contents.pop(0)


@pytest.mark.parametrize("source", ["microsoft", "cifar10"])
def test_a_pinned_archive_is_compared_with_its_pin(server: Server, tmp_path: Path, source: str) -> None:
    assert fetch(tmp_path, pinned(source, server.url, ZIP)) == ZIP
    (tmp_path / "raw" / "archive").unlink()
    other = ZIP[:-1] + b"?"
    assert "SHA-256" in refusal(tmp_path, pinned(source, server.url, other))
    assert "bytes" in refusal(tmp_path, pinned(source, server.url, ZIP + b"?"))


def test_the_pins_are_those_of_the_public_archives() -> None:
    pins = (load_source(MicrosoftSource).microsoft, load_source(Cifar10Source).cifar10)
    assert [(pin.url.rpartition("/")[2], pin.bytes, pin.sha256[:8]) for pin in pins] == [
        ("kagglecatsanddogs_5340.zip", 824_887_076, "b7974bd0"),
        ("cifar-10-python.tar.gz", 170_498_071, "6d958be0"),
    ]
