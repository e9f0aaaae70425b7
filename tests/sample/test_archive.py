"""The drawn sample: the same for the same parameters, laid out like the real archive, faulty where it says so.

Run with `pytest tests/sample/test_archive.py`.
"""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from thaw.params import SampleParams
from thaw.sample.archive import LABELS, PLANTED, draw_archive, draw_image

SMALL = SampleParams(images_per_class=20, seed=0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "archive"
    draw_archive(path, params=SMALL)
    return path


@pytest.fixture(scope="module")
def files(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def _planted(files: dict[str, bytes], fault: str) -> list[tuple[bytes, bytes]]:
    """The bytes of each file with this fault, and those of its original (empty where it has none)."""
    found = [planted for planted in PLANTED if planted.fault == fault]
    assert found
    return [
        (files[f"PetImages/{planted.name}"], files[f"PetImages/{planted.original}"] if planted.original else b"")
        for planted in found
    ]


def _open(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def _grey(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)


def test_the_same_parameters_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    draw_archive(tmp_path / "again", params=SMALL)
    assert (tmp_path / "again").read_bytes() == archive.read_bytes()


def test_another_seed_gives_other_images() -> None:
    assert draw_image("Cat", 0, seed=0) != draw_image("Cat", 0, seed=1)


def test_an_image_depends_on_its_class_and_index() -> None:
    images = [draw_image(label, index, seed=0).tobytes() for label in LABELS for index in (0, 1)]
    assert len(set(images)) == 4


def test_pixels_are_pinned() -> None:
    """The drawings before JPEG, so that no encoder matters.

    If this fails after a change to the drawing code, or after an update of Pillow that draws differently, look at the
    contact sheet; if it is still fine, put the new hash here and repeat the measurements that the README reports.
    """
    digest = hashlib.sha256()
    for label in LABELS:
        for index in range(8):
            digest.update(draw_image(label, index, seed=0).tobytes())
    assert digest.hexdigest() == "2c700ac9c6e25880cc9107e2d8ff0782dc92dff7a1e852f6e42d429c59e0c688"


def test_layout_is_that_of_the_real_archive(files: dict[str, bytes]) -> None:
    ordinary = {f"PetImages/{label}/{index}.jpg" for label in LABELS for index in range(20)}
    planted = {f"PetImages/{planted.name}" for planted in PLANTED}
    beside = {"MSR-LA - 3467.docx", "readme[1].txt", "PetImages/Cat/Thumbs.db", "PetImages/Dog/Thumbs.db"}
    assert set(files) == ordinary | planted | beside
    assert list(files) == sorted(files)
    assert b"drawings" in files["readme[1].txt"]


def test_members_carry_nothing_of_the_machine_or_the_hour(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        headers = {
            (member.date_time, member.external_attr, member.compress_type, member.create_system)
            for member in opened.infolist()
        }
    assert headers == {((1980, 1, 1, 0, 0, 0), 0o100644 << 16, zipfile.ZIP_STORED, 3)}


def test_licence_opens_as_a_word_document(files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(files["MSR-LA - 3467.docx"])) as docx:
        assert "[Content_Types].xml" in docx.namelist()
        assert b"drawings" in docx.read("word/document.xml")


def test_ordinary_images_are_rgb_jpegs_of_varied_shape(files: dict[str, bytes]) -> None:
    images = [_open(files[f"PetImages/{label}/{index}.jpg"]) for label in LABELS for index in range(20)]
    assert {(image.format, image.mode) for image in images} == {("JPEG", "RGB")}
    assert all(160 <= side < 300 for image in images for side in image.size)
    assert len({image.size for image in images}) > 30


def test_planted_ids_start_at_12000_and_repeat_images_that_every_sample_has() -> None:
    assert all(int(Path(planted.name).stem) >= 12000 for planted in PLANTED)
    assert all(int(Path(planted.original).stem) < 20 for planted in PLANTED if planted.original)
    assert len({planted.name for planted in PLANTED}) == len(PLANTED)


@pytest.mark.parametrize("fault", ["empty", "html"])
def test_files_without_an_image(files: dict[str, bytes], fault: str) -> None:
    for content, _ in _planted(files, fault):
        assert (content == b"") == (fault == "empty")
        with pytest.raises(UnidentifiedImageError):
            _open(content)


def test_truncated_files_have_a_header_and_no_end(files: dict[str, bytes]) -> None:
    for content, _ in _planted(files, "truncated"):
        assert Image.open(io.BytesIO(content)).format == "JPEG"
        with pytest.raises(OSError, match="truncated"):
            _open(content)


def test_odd_but_sound_files_decode(files: dict[str, bytes]) -> None:
    assert {_open(content).format for content, _ in _planted(files, "png")} == {"PNG"}
    assert {_open(content).mode for content, _ in _planted(files, "greyscale")} == {"L"}


def test_rotated_file_is_upright_after_its_exif(files: dict[str, bytes]) -> None:
    [(content, _)] = _planted(files, "exif_rotated")
    stored, drawn = _open(content), draw_image("Dog", 12102, seed=0)
    assert stored.getexif()[0x0112] == 6
    upright = ImageOps.exif_transpose(stored)
    assert upright.size == drawn.size != stored.size
    assert np.abs(_grey(upright) - _grey(drawn)).mean() < 3


@pytest.mark.parametrize("fault", ["exact_duplicate", "wrong_label"])
def test_exact_duplicates(files: dict[str, bytes], fault: str) -> None:
    assert all(content == original for content, original in _planted(files, fault))
    for planted in PLANTED:
        if planted.fault == fault and planted.original:
            assert (planted.name[:3] != planted.original[:3]) == (fault == "wrong_label")


@pytest.mark.parametrize(("fault", "scale"), [("other_quality", 1), ("other_size", 0.75)])
def test_near_duplicates_show_the_same_in_other_bytes(files: dict[str, bytes], fault: str, scale: float) -> None:
    for content, original in _planted(files, fault):
        copy, source = _open(content), _open(original)
        assert content != original
        assert copy.size == (int(source.width * scale), int(source.height * scale))
        assert np.abs(_grey(copy) - _grey(source)).mean() < 3


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Image.Image], NDArray[np.int64]]:
    labels = np.repeat([0, 1], 60)
    return [draw_image(LABELS[k // 60], k % 60, seed=0) for k in range(120)], labels


@pytest.mark.parametrize("side", [1, 16])
def test_raw_pixels_do_not_tell_cats_from_dogs(drawn: tuple[list[Image.Image], NDArray[np.int64]], side: int) -> None:
    """Neither the mean colour (a side of 1) nor a linear model on 16 x 16 pixels: else the sample would be too easy."""
    images, labels = drawn
    pixels = [np.asarray(image.resize((side, side), Image.Resampling.BOX)).ravel() for image in images]
    held_out = np.arange(120) % 10 < 3
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=1000))
    features = np.array(pixels, dtype=np.float64)
    model.fit(features[~held_out], labels[~held_out])
    assert model.score(features[held_out], labels[held_out]) < 0.75
