"""The small archives and images that people really have, from the folder beside the project: what is made of each.

Run with `pytest -v tests/data/test_shared_cases.py`, which prints the cases; other tests make such files themselves.
"""

from pathlib import Path

import pytest

from thaw.data.decode import UndecodableError, decode_image
from thaw.data.inspection import inspect_images
from thaw.params import AS_FOUND, Params

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases in {CASES}")

ARCHIVES = {
    "a02c_Test_capital.zip": "82 images in 2 classes (cat 41, dog 41), val and test given",
    "a06_csv.zip": "60 images in 2 classes (cat 30, dog 30), labels from labels.csv, split drawn",
    "a22g_cover_picture.zip": "50 images in 2 classes (cat 25, dog 25), split drawn; 1 image beside the class folders "
    "left aside",
    "a23c_hardlink.tar.gz": "50 images in 2 classes (cat 25, dog 25), split drawn; 1 entry of the archive refused",
    "a36_all_same.zip": "60 images in 2 classes (cat 30, dog 30), split drawn",
    "a40_kaggle_original.zip": "50 images in 2 classes (cat 25, dog 25), labels from file names, split drawn; "
    "25 unlabelled in test/ left aside",
    "d1_unlabelled_test.zip": "40 images in 2 classes (Cat 20, Dog 20), split drawn; 20 unlabelled in test/ left aside",
    "d2_subfolders.zip": "40 images in 2 classes (Cat 20, Dog 20), split drawn",
    "d2b_images_folder.zip": "40 images in 2 classes (n0001 20, n0002 20), split drawn",
    "d3_finder_names.zip": "40 images in 2 classes (Hündchen 20, Kätzchen 20), split drawn",
    "d3b_nfc_and_nfd.zip": "64 images in 2 classes (Hündchen 32, Kätzchen 32), test given",
    "d3d_unicode_extra_field_cjk.zip": "40 images in 2 classes (犬犬 20, 猫猫 20), split drawn",
    "d4_backslashes.zip": "40 images in 2 classes (Cat 20, Dog 20), split drawn; 40 entries of the archive renamed",
    "d5_icon_cr.zip": "40 images in 2 classes (Cat 20, Dog 20), split drawn; 2 entries of the archive renamed",
    "d5c_ipynb_checkpoints.zip": "40 images in 2 classes (Cat 20, Dog 20), split drawn",
    "d6_case_twins.zip": "41 images in 2 classes (Cat 21, Dog 20), split drawn; 1 entry of the archive renamed",
    "d6b_case_of_class.zip": "64 images in 2 classes (Cat 32, Dog 32), test given",
    "d7_small_classes.zip": "120 images in 12 classes ("
    + ", ".join(f"class{number:02} 10" for number in range(12))
    + "), split drawn",
}
IMAGES = {
    "avif_named.jpg": ("AVIF", None, ()),
    "img_grey16_trns.png": ("PNG", None, ()),
    "img_tiff12in16.tif": ("TIFF", None, ("samples up to 3,552, read as 12 bits",)),
    "jpeg_no_eoi.jpg": ("JPEG", "no end mark", ()),
    "png_badcrc_text.png": ("PNG", "wrong checksum", ()),
    "tiff_i32.tif": ("TIFF", None, ("samples up to 222, read as 8 bits",)),
}
BROKEN = {
    "heic_named.jpg": r"unsupported format \(HEIC image: convert it to JPEG or PNG\)",
    "png_flip_idat.png": r"broken \(broken data stream when reading image file\)",
}


def test_no_case_is_forgotten() -> None:
    archives = {path.name for pattern in ("*.zip", "*.tar.gz") for path in CASES.glob(pattern)}
    assert archives == {*ARCHIVES, "a35_label_conflict_all.zip"}
    assert {path.name for path in (CASES / "images").iterdir()} == IMAGES.keys() | BROKEN.keys()


@pytest.mark.parametrize("name", ARCHIVES)
def test_what_is_understood_of_an_archive(name: str, default_params: Params) -> None:
    found = inspect_images(CASES / name, unzip=default_params.unzip, clean=default_params.clean, layout=AS_FOUND)
    assert (found.understood, found.problem) == (ARCHIVES[name], "")


def test_where_every_image_stands_in_both_classes_it_is_said(default_params: Params) -> None:
    archive = CASES / "a35_label_conflict_all.zip"
    found = inspect_images(archive, unzip=default_params.unzip, clean=default_params.clean, layout=AS_FOUND)
    assert found.problem == (
        f"{archive} leaves no sound image with a class (dropped: 40 label conflict): "
        "leave each image in one class alone"
    )
    assert found.understood == "0 images in 0 classes, split drawn"


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_kept_of_an_image(name: str) -> None:
    image = decode_image((CASES / "images" / name).read_bytes(), max_pixels=1_000_000)
    assert (image.format, image.damage, image.notes) == IMAGES[name]
    # Neither all black nor all white.
    assert 90 < image.pixels.mean() < 140


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_called_what_it_is(name: str) -> None:
    with pytest.raises(UndecodableError, match=BROKEN[name]):
        decode_image((CASES / "images" / name).read_bytes(), max_pixels=1_000_000)
