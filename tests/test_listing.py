"""The listing of the unzipped folder, and what does not fit it.

Run with `pytest tests/test_listing.py`.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from thaw.errors import DataError
from thaw.listing import list_files, read_listing, require_listed, write_listing

FILES = {"b/2.jpg": b"two", "a/1.jpg": b"one", "a/ä €.jpg": b"", "z.txt": b"last"}
HASHES = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(data)
    write_listing(tmp_path / "in", tmp_path / "in.sha256")
    return tmp_path / "in"


def test_it_holds_every_file_once_sorted(folder: Path) -> None:
    assert list(read_listing(folder.with_name("in.sha256")).items()) == sorted(HASHES.items())
    assert list_files(folder) == sorted(FILES)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum on this machine")
def test_sha256sum_can_read_it(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "../in.sha256"], cwd=folder, check=True)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            {path: sha256 for path, sha256 in HASHES.items() if path != "a/1.jpg"},
            r"'a/1.jpg' is missing since .*sha256",
        ),
        (HASHES | {"a/1.jpg": "0" * 64}, "'a/1.jpg' has changed since"),
        (HASHES | {"a/9.jpg": "0" * 64}, "'a/9.jpg' has been added since"),
    ],
)
def test_another_folder_is_one_sentence(folder: Path, found: dict[str, str], message: str) -> None:
    listing = folder.with_name("in.sha256")
    require_listed(HASHES, listing)
    with pytest.raises(DataError, match=message):
        require_listed(found, listing)


def test_a_missing_listing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none does not exist: run the unzip stage"):
        read_listing(tmp_path / "none")
