"""The checksums of the unzipped folder, and what does not fit it.

Run with `pytest tests/ingest/test_checksums.py`.
"""

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thaw.errors import DataError
from thaw.ingest.checksums import ChangedFolderError, list_known_files, read_checksums, read_or_restore, write_checksums
from thaw.ingest.folder_files import hash_files, list_files
from thaw.ingest.unpack import Unpacked, unpack_archive
from thaw.params import UnzipParams

FILES = {"b/2.jpg": b"two", "a/1.jpg": b"one", "a/ä €.jpg": b"", "z.txt": b"last"}
LIMITS = UnzipParams(max_files=100, max_bytes=10_000, max_ratio=100)
HASHES = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(data)
    write_checksums(tmp_path / "in.sha256", hash_files(tmp_path / "in"))
    return tmp_path / "in"


def test_it_holds_every_file_once_sorted(folder: Path) -> None:
    assert list(read_checksums(folder.with_name("in.sha256")).items()) == sorted(HASHES.items())
    assert list_files(folder) == sorted(FILES)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum on this machine")
def test_sha256sum_can_read_it(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "../in.sha256"], cwd=folder, check=True)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(min_size=1, max_size=40))
def test_any_name_that_is_let_through_comes_back(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        (folder / name.replace("/", "_")).write_bytes(b"data")
    except (OSError, ValueError):
        return  # not a name on this file system
    try:
        write_checksums(tmp_path / "any.sha256", hash_files(folder))
    except DataError:
        return
    assert read_checksums(tmp_path / "any.sha256") == hash_files(folder)


@pytest.mark.parametrize("name", ["a\u2028b.jpg", "a\x85b.jpg", "a  b.jpg", " .jpg"])
def test_strange_names_come_back(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"data")
    write_checksums(tmp_path / "in.sha256", hash_files(tmp_path / "in"))
    assert list(read_checksums(tmp_path / "in.sha256")) == [name]


def pack(archive: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(archive, "w") as package:
        for path, data in files.items():
            package.writestr(path, data)
    return archive


def read_as_clean_does(files: Unpacked) -> None:
    """Each file once, compared while it is read."""
    assert files.sha256 is not None
    for path in list_known_files(files):
        if hashlib.sha256((files.folder / path).read_bytes()).hexdigest() != files.sha256[path]:
            raise ChangedFolderError(files.folder)


@pytest.mark.parametrize("spoil", ["nothing", "delete", "change", "add", "remove", "another set"])
def test_a_folder_that_differs_is_unpacked_again(folder: Path, tmp_path: Path, spoil: str) -> None:
    archive, sha256 = pack(tmp_path / "archive", FILES), read_checksums(folder.with_name("in.sha256"))
    match spoil:
        case "delete" | "another set":
            shutil.rmtree(folder)
        case "change":
            (folder / "a" / "1.jpg").write_bytes(b"other")
        case "add":
            (folder / "a" / "9.jpg").write_bytes(b"more")
        case "remove":
            (folder / "a" / "1.jpg").unlink()
    if spoil == "another set":
        folder.mkdir()
        (folder / "x.jpg").write_bytes(b"x")
    mark = folder.stat().st_ino if folder.exists() else None
    files = Unpacked(folder=folder, name="the archive", sha256=sha256)
    read_or_restore(files, read_as_clean_does, archive=archive, limits=LIMITS)
    assert hash_files(folder) == HASHES
    assert (folder.stat().st_ino == mark) == (spoil == "nothing")


def test_an_archive_that_is_not_the_listed_one_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "archive", FILES | {"a/1.jpg": b"other"})
    shutil.rmtree(folder)
    files = Unpacked(folder=folder, name="the archive", sha256=read_checksums(folder.with_name("in.sha256")))
    with pytest.raises(DataError, match=r"archive does not unpack to what is listed of .*/in: check the disk, and run"):
        read_or_restore(files, read_as_clean_does, archive=archive, limits=LIMITS)


def test_what_is_unpacked_is_hashed_as_it_is_written(tmp_path: Path) -> None:
    files = unpack_archive(pack(tmp_path / "archive", FILES), tmp_path / "out", limits=LIMITS)
    assert files.sha256 == hash_files(tmp_path / "out")
    assert list(files.sha256) == sorted(FILES)


def test_a_missing_listing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none does not exist: run the unzip stage"):
        read_checksums(tmp_path / "none")
