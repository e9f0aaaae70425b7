"""External test sets: classes are matched by name, and what the models were trained on is left out.

Run with `pytest tests/data/test_external.py`.
"""

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from data.image_fixtures import encoded, image
from thaw import paths
from thaw.data.clean import clean_images
from thaw.data.external import clean_external, match_classes, read_training_images
from thaw.data.image_zip import ImageZip
from thaw.data.manifest import Reason, Row, read_manifest
from thaw.data.splits_csv import read_splits, write_splits
from thaw.errors import DataError
from thaw.ingest.unpack import Unpacked
from thaw.params import CleanParams, UnzipParams
from thaw.paths import ExternalSet

CLEAN = CleanParams(side_px=48, min_side_px=16, max_pixels=1_000_000, max_hamming_distance=6)
UNZIP = UnzipParams(max_files=1000, max_bytes=10**8, max_ratio=200)
ARCHIVE, WEB = Path("web.zip"), ExternalSet("web")


@pytest.mark.parametrize(
    ("label", "known", "mapping", "expected"),
    [
        ("Cat", ["Cat", "Dog"], {}, "Cat"),
        ("cat", ["Cat", "Dog"], {}, "Cat"),
        ("DOG ", ["Cat", "Dog"], {}, "Dog"),
        ("red  panda", ["Dog", "Red Panda"], {}, "Red Panda"),
        ("STRASSE", ["Stra\u00dfe", "Weg"], {}, "Stra\u00dfe"),
        ("cafe\u0301", ["Caf\u00e9", "Bar"], {}, "Caf\u00e9"),
        ("hounds", ["Cat", "Dog"], {"hounds": "Dog"}, "Dog"),
        ("Hounds", ["Cat", "Dog"], {"hounds ": "dog"}, "Dog"),
        ("cat", ["Cat", "Dog"], {"Cat": "Dog"}, "Dog"),
        ("cat", ["Cat", "cat"], {}, "cat"),
    ],
)
def test_a_class_is_found_by_its_name(label: str, known: list[str], mapping: dict[str, str], expected: str) -> None:
    assert match_classes([label], known=known, mapping=mapping, archive=ARCHIVE, named_by="there") == {label: expected}


@pytest.mark.parametrize(
    ("label", "known", "mapping", "complaint"),
    [
        ("Emu", ["Cat", "Dog"], {}, "the class 'Emu', which is none of the models' classes (Cat, Dog): say in there"),
        ("CAT", ["Cat", "cat"], {}, "the class 'CAT', which is none of the models' classes (Cat, cat)"),
        ("Emu", ["Cat", "Dog"], {"emu": "Bird"}, "the class 'Emu', by there 'Bird', which is none of"),
        ("Cat", ["Cat", "Dog"], {"Hound": "Dog"}, "there names the class 'Hound', which web.zip does not have (Cat)"),
    ],
)
def test_a_class_that_is_none_is_one_sentence(
    label: str, known: list[str], mapping: dict[str, str], complaint: str
) -> None:
    with pytest.raises(DataError) as caught:
        match_classes([label], known=known, mapping=mapping, archive=ARCHIVE, named_by="there")
    assert complaint in str(caught.value)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleaned project of 24 images, numbers 0 to 23: six are test, the others train or val."""
    monkeypatch.chdir(tmp_path)
    for number in range(24):
        file = Path("sources", ("Cat", "Dog")[number % 2], f"{number:02}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(image(number), "PNG"))
    clean_images(
        Unpacked(folder=Path("sources"), name="sources"),
        params=CLEAN,
        manifest=paths.MANIFEST,
        images=paths.IMAGES,
        dropped=paths.DROPPED,
        fingerprints=paths.FINGERPRINTS,
    )
    rows = [row for row in read_manifest(paths.MANIFEST) if row.kept]
    assert len(rows) == 24
    splits = {row.path: ("train", "train", "val", "test")[int(Path(row.path).stem) // 2 % 4] for row in rows}
    write_splits(paths.SPLITS, [(row.path, row.label, splits[row.path], row.path) for row in rows])


def numbers_of(split: str) -> list[int]:
    table = read_splits(paths.SPLITS)
    return [int(Path(path).stem) for path, name in zip(table.paths, table.splits, strict=True) if name == split]


def clean(files: dict[str, bytes], mapping: dict[str, str] | None = None) -> dict[str, Row]:
    """The manifest of an external archive of some files, by path."""
    with zipfile.ZipFile(ARCHIVE, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    splits = read_splits(paths.SPLITS)
    clean_external(
        ARCHIVE,
        unzip=UNZIP,
        clean=CLEAN,
        known=splits.classes,
        mapping=mapping or {},
        named_by="evaluate.external.web.classes",
        trained_on=read_training_images(paths.MANIFEST, paths.FINGERPRINTS, splits=splits),
        manifest=WEB.manifest,
        images=WEB.images,
        scratch=paths.EXTERNAL_SCRATCH,
    )
    assert list(paths.EXTERNAL_SCRATCH.iterdir()) == []
    return {row.path: row for row in read_manifest(WEB.manifest)}


def new_files() -> dict[str, bytes]:
    """Sound images of both classes, under other names for them, that the project has not seen."""
    return {f"{('cats', 'DOG')[n % 2]}/{n}.jpg": encoded(image(n)) for n in range(100, 110)}


HOMES = [(home, label) for home in ("home", "zoo") for label in ("Cat", "Dog")]
"""Two readings: by the places, or by the animals."""


def test_labels_are_the_classes_of_the_models() -> None:
    rows = clean(new_files(), {"cats": "Cat"})
    assert Counter(row.label for row in rows.values() if row.kept) == {"Cat": 5, "Dog": 5}
    with ImageZip(WEB.images) as images:
        assert images.paths == sorted(new_files())
        assert max(min(images.read_image(path).pixels().shape[:2]) for path in images.paths) <= CLEAN.side_px


def test_copies_of_images_that_were_trained_on_are_left_out_and_said() -> None:
    train, val, test = (numbers_of(split)[0] for split in ("train", "val", "test"))
    leaked = {
        "DOG/exact.png": encoded(image(train), "PNG"),
        # Whatever they are called there.
        "cats/near.jpg": encoded(image(val), quality=60),
        "DOG/large.jpg": encoded(image(train, size=(120, 88))),
    }
    rows = clean(new_files() | leaked | {"DOG/test.jpg": encoded(image(test))}, {"cats": "Cat"})
    assert {path for path, row in rows.items() if row.reason == Reason.TRAINED_ON} == set(leaked)
    assert rows["DOG/test.jpg"].kept, "no model has seen it"
    with ImageZip(WEB.images) as images:
        assert images.paths == sorted([*new_files(), "DOG/test.jpg"])


def test_copies_within_the_set_are_one_group_and_two_labels_a_conflict() -> None:
    copies = {
        "cats/copy.png": encoded(image(100), "PNG"),
        # Cat and cats are the same class here, so there is no conflict.
        "Cat/copy.jpg": encoded(image(102)),
        "DOG/conflict.jpg": encoded(image(104)),
    }
    rows = clean(new_files() | copies, {"cats": "Cat"})
    assert rows["cats/copy.png"].duplicate_group == rows["cats/100.jpg"].duplicate_group == "cats/100.jpg"
    assert rows["Cat/copy.jpg"].kept
    assert rows["cats/102.jpg"].duplicate_group == "Cat/copy.jpg"
    conflict = {path for path, row in rows.items() if row.reason == Reason.LABEL_CONFLICT}
    assert conflict == {"DOG/conflict.jpg", "cats/104.jpg"}


def test_a_set_that_can_be_read_in_two_ways_names_no_parameter_of_the_training_images() -> None:
    with pytest.raises(
        DataError, match=r"can be read as .* or as .*: leave one of the two out of it, so that"
    ) as caught:
        clean({f"{home}/{label}/{n}.jpg": encoded(image(n)) for n, (home, label) in enumerate(HOMES, start=200)})
    assert "data." not in str(caught.value)


def test_the_same_archive_gives_the_same_bytes() -> None:
    clean(new_files(), {"cats": "Cat"})
    first = WEB.manifest.read_bytes(), WEB.images.read_bytes()
    clean(new_files(), {"cats": "Cat"})
    assert (WEB.manifest.read_bytes(), WEB.images.read_bytes()) == first


def test_a_set_of_which_nothing_new_is_left_is_refused_and_the_old_one_stays() -> None:
    clean(new_files(), {"cats": "Cat"})
    before = WEB.images.read_bytes()
    one, other = numbers_of("train")[:2]
    files = {
        "Cat/0.png": encoded(image(one), "PNG"),
        "Cat/1.png": encoded(image(other), "PNG"),
        "Dog/2.jpg": encoded(image(200)),
    }
    complaint = r"^web\.zip has sound images of Dog alone, once its 2 copies of training images are left out: give an"
    with pytest.raises(DataError, match=complaint):
        clean(files)
    assert WEB.images.read_bytes() == before
