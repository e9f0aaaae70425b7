"""ZIP files: the same bytes whenever and wherever they are written.

Run with `pytest tests/utils/test_zips.py`.
"""

import hashlib
import zipfile
from pathlib import Path

from thaw.utils.zips import EPOCH, add_stored


def write(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        add_stored(archive, "Cat/1.txt", b"meow")
        add_stored(archive, "run", b"#!/bin/sh\n", mode=0o755)
    return path.read_bytes()


def test_a_member_is_stored_whole_with_one_time_and_its_permissions(tmp_path: Path) -> None:
    write(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("Cat/1.txt") == b"meow"
        members = archive.infolist()
    assert [member.external_attr >> 16 for member in members] == [0o644, 0o755]
    for member in members:
        assert (member.date_time, member.compress_type, member.create_system) == (EPOCH, zipfile.ZIP_STORED, 3)


def test_the_bytes_are_the_same_everywhere(tmp_path: Path) -> None:
    assert (
        hashlib.sha256(write(tmp_path / "a.zip")).hexdigest()
        == "13be49d4198845a4b975b753bfa8eb5cacb4d0218cd327fe42f20a12052cf305"
    )
