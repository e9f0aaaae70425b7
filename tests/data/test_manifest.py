"""The manifest: what is written is what is read, and a broken one is one sentence.

Run with `pytest tests/data/test_manifest.py`.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.data.decode import Fault
from thaw.data.manifest import (
    COLUMNS,
    EXPLANATIONS,
    Reason,
    Row,
    describe_images,
    read_manifest,
    summarise,
    write_manifest,
)
from thaw.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
OPTIONAL = st.none() | st.integers(1, 10**6)
ROWS = st.builds(
    Row,
    path=TEXT,
    label=TEXT | st.sampled_from(["NA", "nan", "007", "1e5", "true"]),
    bytes=st.integers(0, 10**12),
    sha256=st.just("0" * 64),
    width_px=OPTIONAL,
    height_px=OPTIONAL,
    mode=st.sampled_from([None, "RGB"]),
    format=st.sampled_from([None, "JPEG"]),
    exif_orientation=OPTIONAL,
    kept=st.booleans(),
    reason=st.sampled_from(["", *Reason]),
    damage=st.just(""),
    pixels_sha256=st.just(""),
    duplicate_group=TEXT,
    duplicate_kind=st.sampled_from(["", "exact", "near"]),
)


@given(st.lists(ROWS, max_size=3, unique_by=lambda row: row.path))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    write_manifest(path, rows)
    assert read_manifest(path) == sorted(rows, key=lambda row: row.path)


def test_the_columns_are_those_that_the_other_stages_read(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [Row(path="a/é.jpg", label="a", bytes=3, sha256="0", kept=True)])
    assert (tmp_path / "m.csv").read_bytes().decode() == (
        "path,label,bytes,sha256,width_px,height_px,mode,format,exif_orientation,kept,reason,damage,pixels_sha256,"
        "duplicate_group,duplicate_kind,label_source,split,note\n"
        "a/é.jpg,a,3,0,,,,,,true,,,,,,,,\n"
    )


def test_every_reason_is_explained_and_every_fault_is_a_reason() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert {str(fault) for fault in Fault} <= {str(reason) for reason in Reason}


@pytest.mark.parametrize(
    "text",
    ["path,label\na,b\n", ",".join(COLUMNS) + "\na,b,not a number\n", ",".join(COLUMNS) + "\na,b,3,,,,,,,maybe,,,,,\n"],
)
def test_a_broken_manifest_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"m\.csv is no manifest .*: delete it and run the clean stage again"):
        read_manifest(tmp_path / "m.csv")


def test_a_missing_manifest_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.csv does not exist: run the clean stage"):
        read_manifest(tmp_path / "m.csv")


def test_a_summary_counts_what_was_kept_and_why_the_rest_was_not() -> None:
    def row(path: str, *, reason: str = "", group: str = "") -> Row:
        return Row(path=path, label="a", bytes=1, sha256="", kept=not reason, reason=reason, duplicate_group=group)

    rows = [row("1", group="1"), row("2", group="1"), row("3"), row("4", reason=Reason.EMPTY)]
    assert summarise([*rows, row("5", reason=Reason.EMPTY), row("6", reason=Reason.BROKEN)]) == (
        "kept 3 of 6 files, 1 groups of duplicates among them; dropped: 1 broken, 2 empty file "
        "(data/clean/manifest.csv says which)"
    )


def test_what_was_understood_is_one_line() -> None:
    def row(path: str, label: str, *, split: str = "", reason: str = "", note: str = "") -> Row:
        width = None if reason == Reason.REFUSED else 9
        return Row(
            path=path,
            label=label,
            bytes=1,
            sha256="",
            kept=not reason,
            reason=reason,
            split=split,
            note=note,
            label_source="folder" if label else "",
            width_px=width,
        )

    kept = [row(f"train/{label}/{i}.jpg", label, split="train") for label in ("Dog", "Cat") for i in range(600)]
    assert describe_images(kept) == "1,200 images in 2 classes (Cat 600, Dog 600), split drawn"
    given = [row("val/Cat/1.jpg", "Cat", split="val"), row("test/Dog/1.jpg", "Dog", split="test")]
    assert describe_images(kept + given).endswith("(Cat 601, Dog 601), val and test given")
    assert describe_images(kept + given, given=()).endswith(", split drawn")
    aside = [row(f"test/{i}.jpg", "", split="test", reason=Reason.NO_LABEL) for i in range(12)]
    aside += [row("cover.jpg", "", reason=Reason.NO_CLASS), row("/x", "", reason=Reason.REFUSED, note="a link")]
    assert describe_images(kept + aside).endswith(
        ", split drawn; 12 unlabelled in test/ left aside; 1 image beside the class folders left aside; "
        "1 entry of the archive refused"
    )
    many = [row(f"{i}/{i}.jpg", f"class{i:02}") for i in range(30)]
    assert describe_images(many).startswith("30 images in 30 classes (class00 1, ")
    assert "class11 1, ...)" in describe_images(many)
