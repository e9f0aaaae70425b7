"""What is known of a pinned archive is compared with what cleaning found.

Run with `pytest tests/data/test_known_archives.py`.
"""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from conftest import load_source
from thaw.data.known_archives import KNOWN_ARCHIVES, hash_if_known, require_known_counts
from thaw.data.manifest import Reason, Row
from thaw.errors import DataError
from thaw.params import Cifar10Source, MicrosoftSource

MICROSOFT = "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"


def microsoft_rows() -> list[Row]:
    """The manifest of Microsoft's archive as it is known to be, but for sizes and hashes."""
    empty = {"PetImages/Cat/666.jpg", "PetImages/Dog/11702.jpg"}
    rows = [
        Row(
            path=(path := f"PetImages/{label}/{number}.jpg"),
            label=label,
            bytes=0,
            sha256="",
            kept=path not in empty,
            reason=Reason.EMPTY if path in empty else "",
        )
        for label in ("Cat", "Dog")
        for number in range(12_500)
    ]
    odd = {"PetImages/Cat/Thumbs.db": Reason.SYSTEM_FILE, "PetImages/Dog/Thumbs.db": Reason.SYSTEM_FILE}
    loose = {"MSR-LA - 3467.docx": Reason.NO_CLASS, "readme[1].txt": Reason.NO_CLASS}
    return rows + [
        Row(path=path, label=path.split("/")[1] if "/" in path else "", bytes=1, sha256="", kept=False, reason=reason)
        for path, reason in (odd | loose).items()
    ]


def test_the_hashes_are_those_that_are_downloaded() -> None:
    microsoft, cifar10 = load_source(MicrosoftSource).microsoft, load_source(Cifar10Source).cifar10
    assert set(KNOWN_ARCHIVES) == {microsoft.sha256, cifar10.sha256}
    assert microsoft.sha256 == MICROSOFT
    assert {known.bytes for known in KNOWN_ARCHIVES.values()} == {microsoft.bytes, cifar10.bytes}


def test_an_archive_of_another_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"this")
    assert hash_if_known(archive) == ""
    known = dataclasses.replace(KNOWN_ARCHIVES[MICROSOFT], bytes=4)
    monkeypatch.setitem(KNOWN_ARCHIVES, MICROSOFT, known)
    assert hash_if_known(archive) == hashlib.sha256(b"this").hexdigest()


def test_the_known_archive_passes_whatever_else_was_dropped() -> None:
    rows = microsoft_rows()
    rows[5] = dataclasses.replace(rows[5], kept=False, reason=Reason.TOO_SMALL)
    rows[6] = dataclasses.replace(rows[6], kept=False, reason=Reason.TOO_MANY_PIXELS)
    require_known_counts(rows, archive_sha256=MICROSOFT)


@pytest.mark.parametrize("left_out", ["", "Cat"])
def test_the_known_archive_passes_whatever_the_labels_are(left_out: str) -> None:
    named = [row if row.label == "Dog" else dataclasses.replace(row, label="cat") for row in microsoft_rows()]
    rows = [
        dataclasses.replace(row, label="", kept=False, reason=Reason.NO_CLASS)
        if left_out and row.path.startswith(f"PetImages/{left_out}/") and row.reason != Reason.SYSTEM_FILE
        else row
        for row in named
    ]
    require_known_counts(rows, archive_sha256=MICROSOFT)


def test_a_missing_image_is_one_sentence() -> None:
    with pytest.raises(DataError) as caught:
        require_known_counts(microsoft_rows()[1:], archive_sha256=MICROSOFT)
    assert str(caught.value).startswith(
        "the archive is Microsoft's Cats vs Dogs, which holds 12,500 files of class 'Cat', 12,500 files of class "
        "'Dog', but cleaning found 12,499 files of class 'Cat', 12,500 files of class 'Dog': check the disk"
    )


@pytest.mark.parametrize(
    ("path", "reason", "message"),
    [
        (
            "PetImages/Cat/7.jpg",
            Reason.BROKEN,
            r"found 3 files that cannot be decoded \(Cat/666.jpg, Cat/7.jpg, Dog/11702",
        ),
        ("PetImages/Cat/666.jpg", "", r"found 1 file that cannot be decoded \(Dog/11702.jpg\)"),
    ],
)
def test_another_undecodable_file_is_one_sentence(path: str, reason: str, message: str) -> None:
    rows = [
        dataclasses.replace(row, reason=reason, kept=not reason) if row.path == path else row
        for row in microsoft_rows()
    ]
    with pytest.raises(DataError, match=message):
        require_known_counts(rows, archive_sha256=MICROSOFT)


def test_of_another_archive_nothing_is_known() -> None:
    require_known_counts([], archive_sha256="0" * 64)
