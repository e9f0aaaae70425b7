"""Cleaning: what is kept, what is dropped and why, and that the outputs are the same byte for byte in every run.

Run with `pytest tests/data/test_clean.py`.
"""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.image_fixtures import encoded, image
from thaw.data import clean as cleaning
from thaw.data.clean import clean_images
from thaw.data.decode import Damage, DecodedImage, decode, decode_image
from thaw.data.image_zip import ImageZip
from thaw.data.known_archives import KNOWN_ARCHIVES, KnownArchive
from thaw.data.manifest import ONE_COLOUR, Reason, Row, describe_images, is_renamed, read_manifest, summarise
from thaw.errors import DataError
from thaw.ingest.checksums import ChangedFolderError
from thaw.ingest.odd_entries import OddEntry
from thaw.ingest.unpack import Unpacked
from thaw.params import AS_FOUND, CleanParams, LayoutParams

PARAMS = CleanParams(side_px=64, min_side_px=16, max_pixels=1_000_000, max_hamming_distance=6)


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def clean(
    folder: Path,
    out: Path,
    params: CleanParams = PARAMS,
    *,
    name: str | None = None,
    odd: Sequence[OddEntry] = (),
    layout: LayoutParams | None = AS_FOUND,
    **options: Any,
) -> dict[str, Row]:
    clean_images(
        Unpacked(folder=folder, name=name or str(folder), odd=odd),
        params=params,
        manifest=out / "manifest.csv",
        images=out / "images.zip",
        dropped=out / "dropped.zip",
        layout=layout,
        **options,
    )
    return {row.path: row for row in read_manifest(out / "manifest.csv")}


@pytest.fixture(scope="session")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted files of the real archive, what they are copies of, and 80 photos more."""
    folder = tmp_path_factory.mktemp("photos")
    with zipfile.ZipFile(shared_data / "cats_vs_dogs_2002.zip") as archive:
        for name in archive.namelist():
            number = Path(name).stem
            if not number.isdecimal() or int(number) < 40 or int(number) > 12_000:
                archive.extract(name, folder)
    return folder


def test_the_planted_files_of_the_real_archive(photos: Path, tmp_path: Path) -> None:
    rows = clean(photos, tmp_path)
    reasons = {path: row.reason for path, row in rows.items() if row.reason}
    assert reasons == {
        "MSR-LA - 3467.docx": Reason.NO_CLASS,
        "readme[1].txt": Reason.NO_CLASS,
        "PetImages/Cat/Thumbs.db": Reason.SYSTEM_FILE,
        "PetImages/Dog/Thumbs.db": Reason.SYSTEM_FILE,
        "PetImages/Cat/12001.jpg": Reason.EMPTY,
        "PetImages/Cat/12002.jpg": Reason.NOT_AN_IMAGE,
        "PetImages/Cat/12003.jpg": Reason.TRUNCATED,
        "PetImages/Cat/12004.jpg": Reason.TRUNCATED,
        "PetImages/Dog/12001.jpg": Reason.EMPTY,
        "PetImages/Dog/12002.jpg": Reason.TRUNCATED,
        "PetImages/Dog/12003.jpg": Reason.NOT_AN_IMAGE,
        "PetImages/Cat/1.jpg": Reason.LABEL_CONFLICT,
        "PetImages/Dog/12202.jpg": Reason.LABEL_CONFLICT,
    }
    groups: dict[str, set[str]] = {}
    for path, row in rows.items():
        if row.duplicate_group:
            name = path.removeprefix("PetImages/").removesuffix(".jpg")
            groups.setdefault(row.duplicate_group, set()).add(f"{name} {row.duplicate_kind}")
    assert sorted(map(sorted, groups.values())) == [
        ["Cat/1 exact", "Dog/12202 exact"],
        ["Cat/11 near", "Cat/12103 near"],
        ["Cat/12101 exact", "Cat/8 exact"],
        ["Cat/12102 near", "Cat/9 near"],
        ["Cat/12201 near", "Cat/2 near"],
        ["Cat/12202 near", "Cat/3 near"],
        ["Dog/1 exact", "Dog/12201 exact"],
        ["Dog/11 near", "Dog/12103 near"],
        ["Dog/12101 near", "Dog/8 near"],
        ["Dog/12102 exact", "Dog/9 exact"],
    ]
    assert all(row.label == Path(path).parent.name for path, row in rows.items() if row.kept)
    odd = {Path(path).stem: (row.format, row.mode, row.exif_orientation) for path, row in rows.items() if row.format}
    assert [odd[name] for name in ("12102", "12103")] == [("BMP", "RGB", 1), ("JPEG", "RGB", 6)]


def test_dropped_zip_holds_what_decodes_and_is_dropped(photos: Path, tmp_path: Path) -> None:
    rows = clean(photos, tmp_path)
    with ImageZip(tmp_path / "dropped.zip") as dropped:
        assert dropped.paths == [path for path, row in rows.items() if not row.kept and row.width_px is not None]
        assert {rows[path].reason for path in dropped.paths} == {"label conflict"}


def test_images_zip_holds_the_kept_images_upright_and_small(photos: Path, tmp_path: Path) -> None:
    rows = clean(photos, tmp_path)
    with ImageZip(tmp_path / "images.zip") as images:
        assert images.paths == sorted(path for path, row in rows.items() if row.kept)
        for path in images.paths:
            height, width, _ = images.read_image(path).pixels().shape
            assert min(height, width) <= PARAMS.side_px
            row = rows[path]
            upright = (row.height_px, row.width_px) if row.exif_orientation == 6 else (row.width_px, row.height_px)
            assert upright[0] is not None and upright[1] is not None  # noqa: PT018
            assert width / height == pytest.approx(upright[0] / upright[1], rel=0.03)


def test_the_outputs_are_the_same_in_every_run(photos: Path, tmp_path: Path) -> None:
    clean(photos, tmp_path / "a")
    clean(photos, tmp_path / "b")
    for name in ("manifest.csv", "images.zip"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with zipfile.ZipFile(tmp_path / "a" / "images.zip") as archive:
        infos = archive.infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {(info.compress_type, info.date_time, info.external_attr >> 16) for info in infos} == {
        (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0), 0o644)
    }


def test_an_archive_that_is_known_must_hold_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a/1.jpg": encoded(image(0)), "b/2.jpg": encoded(image(1)), "b/3.jpg": b""}
    folder = write_files(tmp_path / "in", files)

    def clean_known(known: KnownArchive) -> None:
        monkeypatch.setitem(KNOWN_ARCHIVES, "this", known)
        clean_images(
            Unpacked(folder=folder, name="the archive"),
            params=PARAMS,
            manifest=tmp_path / "manifest.csv",
            images=tmp_path / "images.zip",
            dropped=tmp_path / "dropped.zip",
            archive_sha256="this",
        )

    with pytest.raises(
        DataError, match=r"the archive is a test, which holds 1 files of class 'a', 3 files of class 'b'"
    ):
        clean_known(KnownArchive(name="a test", bytes=4, files={"a": 1, "b": 3}, undecodable=frozenset({"b/3.jpg"})))
    with pytest.raises(DataError, match=r"found 1 file that cannot be decoded \(b/3.jpg\)"):
        clean_known(KnownArchive(name="a test", bytes=4, files={"a": 1, "b": 2}, undecodable=frozenset()))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    clean_known(KnownArchive(name="a test", bytes=4, files={"a": 1, "b": 2}, undecodable=frozenset({"b/3.jpg"})))
    assert (tmp_path / "manifest.csv").exists()


def test_a_file_that_is_not_the_listed_one_is_noticed_while_it_is_read(tmp_path: Path) -> None:
    files = {"a/1.jpg": encoded(image(0)), "b/2.jpg": encoded(image(1))}
    known = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    folder = write_files(tmp_path / "in", files)
    for change in ({"a/1.jpg": encoded(image(2))}, {"b/3.jpg": b"one more"}):
        write_files(folder, change)
        with pytest.raises(ChangedFolderError):
            clean_images(
                Unpacked(folder=folder, name="the archive", sha256=known),
                params=PARAMS,
                manifest=tmp_path / "manifest.csv",
                images=tmp_path / "images.zip",
                dropped=tmp_path / "dropped.zip",
            )
        write_files(folder, files)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_two_readings_of_the_layout_stop_before_everything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = ["red/cat", "red/dog", "blue/cow", "blue/hen"]
    files = {f"{folder}/{n}.jpg": encoded(image(n + 10 * i)) for i, folder in enumerate(folders) for n in range(10)}
    looked_at = []

    def count(data: bytes, *, max_pixels: int) -> DecodedImage:
        looked_at.append(data)
        return decode_image(data, max_pixels=max_pixels)

    monkeypatch.setattr(cleaning, "decode_image", count)
    with pytest.raises(DataError, match="can be read as 2 classes"):
        clean(write_files(tmp_path / "in", files), tmp_path)
    assert len(looked_at) == len(folders)
    # Where no image of the folders that make the difference decodes, there is one reading.
    for path in files:
        if path.startswith("blue"):
            write_files(tmp_path / "in", {path: b"no image"})
    rows = clean(tmp_path / "in", tmp_path)
    assert {row.label for row in rows.values() if row.kept} == {"cat", "dog"}


def test_what_is_a_duplicate_does_not_depend_on_how_images_are_stored(photos: Path, tmp_path: Path) -> None:
    small = clean(photos, tmp_path / "64")
    large = clean(photos, tmp_path / "300", PARAMS.model_copy(update={"side_px": 300}))
    assert small == large


def test_kill_9_at_any_moment_leaves_nothing_that_looks_done(photos: Path, tmp_path: Path) -> None:
    clean(photos, tmp_path / "undisturbed")
    names = ["dropped.zip", "manifest.csv", "images.zip"]
    expected = {name: (tmp_path / "undisturbed" / name).read_bytes() for name in names}
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from test_clean import clean; "
        "print('ready', flush=True); clean(Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    out = tmp_path / "killed"
    for delay_s in (0.0, 0.05, 0.1, 0.2, 0.3):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(Path(__file__).parent), str(photos), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()
            time.sleep(delay_s)
            victim.kill()
        for name in names:
            assert not (out / name).exists() or (out / name).read_bytes() == expected[name]
    clean(photos, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


def test_what_needs_no_change_keeps_its_bytes(tmp_path: Path) -> None:
    same = {
        "a/small.jpg": encoded(image(1)),
        "a/small.png": encoded(image(2), "PNG"),
        "b/long.jpg": encoded(image(3, size=(300, 64))),
    }
    changed = {
        "a/large.jpg": encoded(image(4, size=(200, 100))),
        "a/cmyk.jpg": encoded(image(5).convert("CMYK")),
        "b/grey.jpg": encoded(image(6).convert("L")),
        "b/turned.jpg": encoded(
            image(7), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        ),
    }
    lossless = {
        "b/image.gif": encoded(image(8), "GIF"),
        "b/palette.png": encoded(image(9).quantize(), "PNG"),
        "b/image.bmp": encoded(image(10), "BMP"),
    }
    rows = clean(write_files(tmp_path / "in", same | changed | lossless), tmp_path)
    assert all(row.kept for row in rows.values())
    with ImageZip(tmp_path / "images.zip") as images:
        assert {path: images.read(path) for path in same} == same
        for path, data in changed.items():
            assert images.read(path)[:3] == b"\xff\xd8\xff"
            assert images.read(path) != data
        for path, data in lossless.items():
            assert np.array_equal(images.read_image(path).pixels(), decode(data, max_pixels=PARAMS.max_pixels))
        assert images.read_image("b/turned.jpg").pixels().shape == (60, 44, 3)
        assert images.read_image("a/large.jpg").pixels().shape == (64, 128, 3)


def test_each_reason_for_dropping(tmp_path: Path) -> None:
    jpeg = encoded(image(0))
    files = {
        "in/Cat/good.jpg": jpeg,
        "in/Cat/empty.jpg": b"",
        "in/Cat/page.jpg": b"<html>",
        "in/Cat/cut.jpg": jpeg[:-100],
        "in/Cat/broken.png": b"\x89PNG\r\n\x1a\nIEND and nothing",
        "in/Cat/huge.png": encoded(Image.new("1", (1100, 1000)), "PNG"),
        "in/Cat/tiny.png": encoded(Image.new("RGB", (15, 300)), "PNG"),
        "in/Cat/.DS_Store": b"x",
        "in/Cat/._good.jpg": jpeg,
        "in/Dog/good.jpg": encoded(image(1)),
        "in/Dog/cat.jpg": encoded(image(2)),
        "in/Cat/cat.jpg": encoded(image(2), quality=60),
        "in/licence.txt": b"free",
        "in/docs/paper.pdf": b"%PDF",
        "cover.jpg": encoded(image(3)),
        "__MACOSX/in/Cat/good.jpg": jpeg,
    }
    rows = clean(write_files(tmp_path / "images", files), tmp_path)
    assert list(rows) == sorted(files)
    assert {path: (row.label, row.reason) for path, row in rows.items() if not row.kept} == {
        "in/Cat/empty.jpg": ("Cat", Reason.EMPTY),
        "in/Cat/page.jpg": ("Cat", Reason.NOT_AN_IMAGE),
        "in/Cat/cut.jpg": ("Cat", Reason.TRUNCATED),
        "in/Cat/broken.png": ("Cat", Reason.BROKEN),
        "in/Cat/huge.png": ("Cat", Reason.TOO_MANY_PIXELS),
        "in/Cat/tiny.png": ("Cat", Reason.TOO_SMALL),
        "in/Cat/.DS_Store": ("Cat", Reason.SYSTEM_FILE),
        "in/Cat/._good.jpg": ("Cat", Reason.SYSTEM_FILE),
        "in/Dog/cat.jpg": ("Dog", Reason.LABEL_CONFLICT),
        "in/Cat/cat.jpg": ("Cat", Reason.LABEL_CONFLICT),
        "in/licence.txt": ("", Reason.NO_CLASS),
        "in/docs/paper.pdf": ("", Reason.NO_CLASS),
        "cover.jpg": ("", Reason.NO_CLASS),
        "__MACOSX/in/Cat/good.jpg": ("", Reason.SYSTEM_FILE),
    }


def test_damage_that_pillow_cannot_see_is_flagged_and_kept(tmp_path: Path) -> None:
    jpeg = encoded(image(0, size=(600, 440)), quality=95)
    holed = jpeg[:6000] + bytes(500) + jpeg[6500:]
    rows = clean(write_files(tmp_path / "in", {"a/1.jpg": holed, "b/2.jpg": encoded(image(1))}), tmp_path)
    assert [(row.kept, row.damage) for row in rows.values()] == [(True, Damage.SCAN), (True, "")]


def test_one_class_may_lie_in_many_folders(tmp_path: Path) -> None:
    names = ["train/Cat/1.jpg", "train/Dog/1.jpg", "test/Cat/1.jpg", "test/deep/Dog/1.jpg"]
    files = {name: encoded(image(seed)) for seed, name in enumerate(names)}
    rows = clean(write_files(tmp_path / "in", files), tmp_path)
    assert {path: row.label for path, row in rows.items() if row.kept} == {
        name: Path(name).parent.name for name in names
    }


def test_unlabelled_test_images_are_left_aside_and_seen(tmp_path: Path) -> None:
    names = ["train/Cat/1.jpg", "train/Dog/1.jpg", "test/1.jpg", "test/2.jpg"]
    files = {name: encoded(image(seed)) for seed, name in enumerate(names)} | {"test/cut.jpg": b""}
    rows = clean(write_files(tmp_path / "in", files), tmp_path)
    assert {path: (row.label, row.split, row.kept, row.reason) for path, row in rows.items()} == {
        "test/1.jpg": ("", "test", False, Reason.NO_LABEL),
        "test/2.jpg": ("", "test", False, Reason.NO_LABEL),
        "test/cut.jpg": ("", "test", False, Reason.NO_CLASS),
        "train/Cat/1.jpg": ("Cat", "train", True, ""),
        "train/Dog/1.jpg": ("Dog", "train", True, ""),
    }
    with ImageZip(tmp_path / "dropped.zip") as dropped:
        assert dropped.paths == ["test/1.jpg", "test/2.jpg"]


@pytest.mark.parametrize(("place", "encoding"), [("in", "utf-8"), ("beside", "utf-8"), ("in", "utf-16")])
def test_labels_from_a_table(tmp_path: Path, place: str, encoding: str) -> None:
    files = {f"images/{i}.jpg": encoded(image(i)) for i in range(5)} | {"images/5.jpg": b""}
    text = "image,label\n" + "".join(f"{i},{'cat' if i % 2 else 'dog'}\n" for i in (0, 1, 2, 3, 5))
    folder = write_files(tmp_path / "in", files)
    (tmp_path / place / "labels.csv").parent.mkdir(exist_ok=True)
    (tmp_path / place / "labels.csv").write_text(text, encoding=encoding)
    layout = LayoutParams(labels=str(tmp_path / "beside" / "labels.csv")) if place == "beside" else LayoutParams()
    rows = clean(folder, tmp_path, layout=layout)
    assert [(row.label, row.reason) for path, row in rows.items() if path.endswith(".jpg")] == [
        ("dog", ""), ("cat", ""), ("dog", ""), ("cat", ""), ("", Reason.NO_LABEL), ("cat", Reason.EMPTY),
    ]  # fmt: skip
    assert [row.reason for path, row in rows.items() if path.endswith(".csv")] == [Reason.NOT_AN_IMAGE] * (
        place == "in"
    )
    source = "labels.csv" if place == "in" else str(tmp_path / "beside" / "labels.csv")
    assert {row.label_source for row in rows.values() if row.kept} == {source}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, r"labels\.csv cannot be read \(No such file or directory\)"),
        ("a,b\n1,2", r"labels\.csv needs a column with names of files that are there"),
    ],
)
def test_a_table_of_labels_that_is_none_is_one_sentence(tmp_path: Path, text: str | None, complaint: str) -> None:
    folder = write_files(tmp_path / "in", {f"{i}.jpg": encoded(image(i)) for i in range(3, 6)})
    if text is not None:
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"data\\.labels: .*{complaint}"):
        clean(folder, tmp_path, layout=LayoutParams(labels=str(tmp_path / "labels.csv")))


def test_two_readings_stop_and_name_the_archive_as_the_user_does(tmp_path: Path) -> None:
    names = ["home/Cat/1.jpg", "home/Dog/1.jpg", "zoo/Cat/1.jpg", "zoo/Dog/1.jpg"]
    folder = write_files(tmp_path / "in", {name: encoded(image(seed)) for seed, name in enumerate(names)})
    with pytest.raises(DataError, match=r"^my\.zip can be read as 2 classes \(home 2, zoo 2\) or as"):
        clean(folder, tmp_path, name="my.zip")
    with pytest.raises(
        DataError, match=r"leave one of the two out of it, so that it has one folder of images a class$"
    ):
        clean(folder, tmp_path, name="other.zip", layout=None)
    rows = clean(folder, tmp_path, layout=LayoutParams(classes=["Cat", "Dog"]))
    assert [row.label for row in rows.values()] == ["Cat", "Dog", "Cat", "Dog"]


def test_odd_entries_are_rows_and_notes(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"a/1.jpg": encoded(image(0)), "b/1.jpg": encoded(image(1))})
    odd = [
        OddEntry(name="a\u00e4/1.jpg", path="a/1.jpg", why="a name that is not UTF-8"),
        OddEntry(name="../x.jpg", path="", why="leads out"),
        OddEntry(name="b/1.jpg", path="", why="a hard link, not a file"),
        OddEntry(name="b/Thumbs.db", path="", why="a hard link, not a file"),
        OddEntry(name="gone", path="gone", why="it was converted"),
    ]
    rows = clean(folder, tmp_path, odd=odd)
    assert {path: (row.kept, row.reason, row.note) for path, row in rows.items()} == {
        "../x.jpg": (False, Reason.REFUSED, "leads out"),
        "a/1.jpg": (True, "", "'a\u00e4/1.jpg' in the archive: a name that is not UTF-8"),
        "b/1.jpg": (True, "", ""),
        "b/1.jpg (2)": (False, Reason.REFUSED, "a hard link, not a file"),
        "b/Thumbs.db": (False, Reason.SYSTEM_FILE, "a hard link, not a file"),
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"in leaves no sound image with a class \(dropped: no file\): give one folder of images a class"),
        ({"a/1.jpg": b"", "b/1.jpg": b"x"}, r"no sound image with a class \(dropped: 2 not in a class folder\)"),
        ({"1.jpg": encoded(image(0)), "2.jpg": encoded(image(1))}, "no sound image with a class"),
        ({"a/1.jpg": encoded(image(0)), "b/1.jpg": b""}, "sound images of one class only, 'a'"),
        ({"a/1.jpg": encoded(image(0)), "b/1.jpg": encoded(image(0))}, r"\(dropped: 2 label conflict\)"),
        ({"a/1\n.jpg": encoded(image(0))}, r"control characters or is not UTF-8, 'a/1\\n.jpg': rename it"),
    ],
)
def test_a_folder_without_two_classes_is_one_sentence(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    (tmp_path / "in").mkdir()
    write_files(tmp_path / "in", files)
    out = write_files(tmp_path / "out", {"manifest.csv": b"old", "images.zip": b"old"})
    with pytest.raises(DataError, match=message) as caught:
        clean(tmp_path / "in", out)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError) as caught:
        clean(tmp_path / "in", out, layout=None)
    assert "data." not in str(caught.value), "of what no parameter is read for"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"manifest.csv": b"old", "images.zip": b"old"}


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"in is not a directory: run the unzip stage"):
        clean(tmp_path / "in", tmp_path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encoded(image(5)))
    folder = write_files(tmp_path / "in", {"a/1.jpg": encoded(image(0)), "b/1.jpg": encoded(image(1))})
    (folder / "a" / "2.jpg").symlink_to(secret)
    (folder / "b" / "loop").symlink_to(folder)
    assert list(clean(folder, tmp_path)) == ["a/1.jpg", "b/1.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"a/1.jpg": encoded(image(0)), "b/1.jpg": encoded(image(1))})
    (folder / "a" / "1.jpg").chmod(0)
    with pytest.raises(DataError, match=r"1\.jpg cannot be read: Permission denied"):
        clean(folder, tmp_path)


def test_images_that_show_nothing_and_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    files = {f"{label}/{i}.jpg": encoded(image(10 * (label == "b") + i)) for label in "ab" for i in range(2)}
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    black = encoded(Image.new("RGB", (60, 44)), "PNG")
    folder = write_files(tmp_path / "in", {**files, "a/heic.jpg": heic, "b/heic.HEIC": heic, "b/black.png": black})
    rows = clean(folder, tmp_path)
    assert (rows["b/black.png"].kept, rows["b/black.png"].note) == (True, ONE_COLOUR)
    assert rows["a/heic.jpg"].reason == Reason.UNSUPPORTED
    assert rows["a/heic.jpg"].note == "HEIC image: convert it to JPEG or PNG"
    assert "2 unsupported format" in summarise(list(rows.values()))
    assert describe_images(list(rows.values())) == (
        "5 images in 2 classes (a 2, b 3), split drawn; 2 HEIC images not supported; "
        "1 image all of one colour, which is nearly always an error (kept)"
    )


def test_notes_of_the_archive_and_of_the_image_stand_side_by_side(tmp_path: Path) -> None:
    files = {f"{label}/{i}.jpg": encoded(image(10 * (label == "b") + i)) for label in "ab" for i in range(2)}
    folder = write_files(tmp_path / "in", {**files, "a/2.png": encoded(Image.new("L", (60, 44), 9), "PNG")})
    rows = clean(folder, tmp_path, odd=[OddEntry(name="A\\2.png", path="a/2.png", why="backslashes")])
    assert rows["a/2.png"].note == f"'A\\\\2.png' in the archive: backslashes; {ONE_COLOUR}"
    assert [path for path, row in rows.items() if is_renamed(row)] == ["a/2.png"]
