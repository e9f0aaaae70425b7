"""Which folders are classes: a table of layouts as people have them, and what is understood.

Run with `pytest tests/data/test_layouts.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thaw.data.labels_csv import LabelTable, check_labels, index_names, parse_labels, read_label_tables
from thaw.data.layouts import Place, is_system_file, read_layout, split_word
from thaw.data.manifest import Reason
from thaw.errors import DataError
from thaw.params import AS_FOUND, LayoutParams


def images(*folders: str, count: int = 3) -> list[str]:
    """So many images in each folder; no two images of all have the same name."""
    names = [(folder, f"{number:02}{folder.count('a')}.jpg") for folder in folders for number in range(count)]
    return [f"{folder}/{name}".lstrip("/") for folder, name in names]


def named(*names: str, count: int = 3) -> list[str]:
    """`train/cat.{}.jpg` with so many numbers."""
    return [name.format(number) for name in names for number in range(count)]


def table(text: str, paths: Sequence[str], name: str = "labels.csv") -> LabelTable:
    found = parse_labels(text, index_names(paths), name=name)
    assert found is not None
    return found


def summary(places: dict[str, Place]) -> dict[str, str]:
    """Folder -> the class and split of its images, or the reason why they have none."""
    found: dict[str, set[str]] = {}
    for path, place in places.items():
        what = place.reason or f"{place.label} {place.split}".strip()
        found.setdefault(path.rpartition("/")[0], set()).add(what)
    assert all(len(what) == 1 for what in found.values())
    return {folder: what.pop() for folder, what in found.items()}


FOLDERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "one folder a class": (images("Cat", "Dog"), {"Cat": "Cat", "Dog": "Dog"}),
    "a single folder on top": (images("set/Cat", "set/Dog"), {"set/Cat": "Cat", "set/Dog": "Dog"}),
    "two on top": (
        images("dataset/images/Cat", "dataset/images/Dog"),
        {"dataset/images/Cat": "Cat", "dataset/images/Dog": "Dog"},
    ),
    "a folder in each class": (images("Cat/images", "Dog/images"), {"Cat/images": "Cat", "Dog/images": "Dog"}),
    "batches in each class": (
        images("Cat/batch1", "Cat/batch2", "Dog/batch1", "Dog/batch2"),
        {"Cat/batch1": "Cat", "Cat/batch2": "Cat", "Dog/batch1": "Dog", "Dog/batch2": "Dog"},
    ),
    "numbers in each class": (
        images("Cat/1", "Cat/2", "Dog/1"),
        {"Cat/1": "Cat", "Cat/2": "Cat", "Dog/1": "Dog"},
    ),
    "deeper below a class": (
        images("Cat", "Cat/old", "Dog/a", "Dog/b/c"),
        {"Cat": "Cat", "Cat/old": "Cat", "Dog/a": "Dog", "Dog/b/c": "Dog"},
    ),
    "classes in each batch": (
        images("batch1/Cat", "batch1/Dog", "batch2/Cat", "batch2/Dog"),
        {"batch1/Cat": "Cat", "batch1/Dog": "Dog", "batch2/Cat": "Cat", "batch2/Dog": "Dog"},
    ),
    "more of the same": (
        images("Cat", "Dog", "extra/Cat", "extra/Dog"),
        {"Cat": "Cat", "Dog": "Dog", "extra/Cat": "Cat", "extra/Dog": "Dog"},
    ),
    "a folder in itself": (images("Cat/Cat", "Dog/Dog"), {"Cat/Cat": "Cat", "Dog/Dog": "Dog"}),
    "classes that are numbers": (images("0", "1", "2"), {"0": "0", "1": "1", "2": "2"}),
    "a series of classes": (images("class01", "class02"), {"class01": "class01", "class02": "class02"}),
    "a class called train": (images("bus", "car", "train"), {"bus": "bus", "car": "car", "train": "train"}),
    "a class with a split's word": (
        images("crash_test", "train_station"),
        {"crash_test": "crash_test", "train_station": "train_station"},
    ),
    "case and spaces": (
        images("Cat", "a/b/Cat ", "DOG", "a/b/Dog", "a/b/dog", "a/b/DOG "),
        {"Cat": "Cat", "a/b/Cat ": "Cat", "DOG": "DOG", "a/b/Dog": "DOG", "a/b/dog": "DOG", "a/b/DOG ": "DOG"},
    ),
    "a stray image beside the classes": (
        [*images("set/Cat", "set/Dog"), "set/cover.jpg", "preview.png"],
        {"set/Cat": "Cat", "set/Dog": "Dog", "set": "not in a class folder", "": "not in a class folder"},
    ),
    "train, val, test": (
        images("train/Cat", "train/Dog", "val/Cat", "val/Dog", "test/Cat", "test/Dog"),
        {
            "train/Cat": "Cat train",
            "train/Dog": "Dog train",
            "val/Cat": "Cat val",
            "val/Dog": "Dog val",
            "test/Cat": "Cat test",
            "test/Dog": "Dog test",
        },
    ),
    "any spelling of these": (
        images("set/Training/Cat", "set/Training/Dog", "set/VALID/Cat", "set/Testing/Dog"),
        {
            "set/Training/Cat": "Cat train",
            "set/Training/Dog": "Dog train",
            "set/VALID/Cat": "Cat val",
            "set/Testing/Dog": "Dog test",
        },
    ),
    "with another word": (
        images("seg_train/seg_train/sea", "seg_train/seg_train/ice", "seg_test/seg_test/sea"),
        {
            "seg_train/seg_train/sea": "sea train",
            "seg_train/seg_train/ice": "ice train",
            "seg_test/seg_test/sea": "sea test",
        },
    ),
    "other case in test": (
        images("train/Cat", "train/Dog", "test/cat", "test/dog "),
        {"train/Cat": "Cat train", "train/Dog": "Dog train", "test/cat": "Cat test", "test/dog ": "Dog test"},
    ),
    "another Unicode form in test": (
        images("train/K\u00e4tzchen", "train/Hund", "test/Ka\u0308tzchen"),
        {
            "train/K\u00e4tzchen": "K\u00e4tzchen train",
            "train/Hund": "Hund train",
            "test/Ka\u0308tzchen": "K\u00e4tzchen test",
        },
    ),
    "test without labels": (
        images("train/Cat", "train/Dog", "test"),
        {"train/Cat": "Cat train", "train/Dog": "Dog train", "test": "no label"},
    ),
    "test without labels, in a folder": (
        images("train/Cat/images", "train/Dog/images", "val/images", "test/images"),
        {
            "train/Cat/images": "Cat train",
            "train/Dog/images": "Dog train",
            "val/images": "no label",
            "test/images": "no label",
        },
    ),
    "a class that is in test alone": (
        images("train/Cat", "train/Dog", "test/Cat", "test/Emu"),
        {"train/Cat": "Cat train", "train/Dog": "Dog train", "test/Cat": "Cat test", "test/Emu": "Emu test"},
    ),
    "deeper in test": (
        images("train/Cat", "train/Dog", "test/Cat", "test/deep/Dog"),
        {"train/Cat": "Cat train", "train/Dog": "Dog train", "test/Cat": "Cat test", "test/deep/Dog": "Dog test"},
    ),
    "splits in each class": (
        images("Cat/train", "Cat/test", "Dog/train", "Dog/test"),
        {"Cat/train": "Cat train", "Cat/test": "Cat test", "Dog/train": "Dog train", "Dog/test": "Dog test"},
    ),
    "train alone": (images("train/Cat", "train/Dog"), {"train/Cat": "Cat", "train/Dog": "Dog"}),
    "one folder": (images("images/Cat"), {"images/Cat": "Cat"}),
    "masks beside the images": (
        images("set/images/Cat", "set/images/Dog", "set/masks/Cat", "set/masks/Dog"),
        {
            "set/images/Cat": "Cat",
            "set/images/Dog": "Dog",
            "set/masks/Cat": "not in a class folder",
            "set/masks/Dog": "not in a class folder",
        },
    ),
    "images and masks alone": (images("images", "masks"), {"images": "images", "masks": "not in a class folder"}),
    "a class called mask": (images("mask", "no_mask"), {"mask": "mask", "no_mask": "no_mask"}),
    "no folder": (images(""), {"": "not in a class folder"}),
    "batches of nothing known": (
        images("images_1", "images_2"),
        {"images_1": "not in a class folder", "images_2": "not in a class folder"},
    ),
    "what systems leave": (
        images("Cat", "Dog", "Cat/.ipynb_checkpoints", "__MACOSX/Cat", "@eaDir/Cat", ".git/x", "thumbnails"),
        {
            "Cat": "Cat",
            "Dog": "Dog",
            "Cat/.ipynb_checkpoints": "system file",
            "__MACOSX/Cat": "system file",
            "@eaDir/Cat": "system file",
            ".git/x": "system file",
            "thumbnails": "system file",
        },
    ),
}


@pytest.mark.parametrize("layout", FOLDERS)
def test_folders(layout: str) -> None:
    paths, expected = FOLDERS[layout]
    assert summary(read_layout(paths, images=paths)) == expected


AMBIGUOUS: dict[str, tuple[list[str], str]] = {
    "kinds of kinds": (
        images("cats/siamese", "cats/persian", "dogs/poodle", "dogs/beagle"),
        r"2 classes \(cats 6, dogs 6\) or as 4 classes \(beagle 3, .*: set data\.layout: folders for the former, "
        r"data\.classes: \[beagle, persian, poodle, siamese\] for the latter",
    ),
    "two sources": (
        images("home/Cat", "home/Dog", "zoo/Cat", "zoo/Dog"),
        r"2 classes \(home 6, zoo 6\) or as 2 classes \(Cat 6, Dog 6\)",
    ),
    "splits, and something else": (
        images("train/Cat", "train/Dog", "test/Cat", "more/Cat"),
        r"2 classes \(Cat 6, Dog 3\) or as 2 classes \(Cat 9, Dog 3\): set data\.layout: split_folders for the former, "
        r"data\.layout: folders for the latter",
    ),
    "a folder of classes beside another": (
        images("images/Cat", "images/Dog", "more"),
        r"2 classes \(images 6, more 3\) or as 2 classes \(Cat 3, Dog 3\)",
    ),
    "train beside what has no split's name": (
        images("train/Cat", "train/Dog", "unlabelled"),
        r"2 classes \(train 6, unlabelled 3\) or as 2 classes \(Cat 3, Dog 3\)",
    ),
}


@pytest.mark.parametrize("layout", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_not_guessed(layout: str) -> None:
    paths, message = AMBIGUOUS[layout]
    with pytest.raises(DataError, match=message) as caught:
        read_layout(paths, images=paths, name="my.zip")
    assert str(caught.value).startswith("my.zip can be read as ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "knobs", "expected"),
    [
        (
            images("cats/siamese", "cats/persian", "dogs/poodle", "dogs/beagle"),
            {"kind": "folders"},
            {"cats/siamese": "cats", "cats/persian": "cats", "dogs/poodle": "dogs", "dogs/beagle": "dogs"},
        ),
        (
            images("cats/siamese", "cats/persian", "dogs/poodle", "dogs/beagle"),
            {"classes": ["Siamese", "poodle"]},
            {
                "cats/siamese": "Siamese",
                "cats/persian": "not in a class folder",
                "dogs/poodle": "poodle",
                "dogs/beagle": "not in a class folder",
            },
        ),
        (
            images("train/Cat", "train/Dog", "test/Cat", "more/Cat"),
            {"kind": "split_folders"},
            {
                "train/Cat": "Cat train",
                "train/Dog": "Dog train",
                "test/Cat": "Cat test",
                "more/Cat": "not in a class folder",
            },
        ),
        (images("images", "masks"), {"kind": "folders"}, {"images": "images", "masks": "masks"}),
        (images("images", "masks"), {"classes": ["images", "Masks"]}, {"images": "images", "masks": "Masks"}),
        (images("train", "test"), {"kind": "folders"}, {"train": "train", "test": "test"}),
        (images("batch1", "batch2"), {"kind": "folders"}, {"batch1": "batch1", "batch2": "batch2"}),
        (images("batch1", "batch2"), {"classes": ["batch1", "batch2"]}, {"batch1": "batch1", "batch2": "batch2"}),
        (
            images("train/a/Cat", "train/b/Dog", "train/b/Emu", "test/Dog"),
            {"classes": ["Cat", "Dog"]},
            {
                "train/a/Cat": "Cat train",
                "train/b/Dog": "Dog train",
                "train/b/Emu": "no label",
                "test/Dog": "Dog test",
            },
        ),
    ],
)
def test_the_knobs_overrule(paths: list[str], knobs: dict[str, Any], expected: dict[str, str]) -> None:
    assert summary(read_layout(paths, images=paths, **knobs)) == expected


@pytest.mark.parametrize(
    ("paths", "classes", "message"),
    [
        (
            images("in/Cat", "in/Dog", "in/Bird"),
            ["Cat", "Dog", "Brid"],
            r"data\.classes names 'Brid', of which my\.zip has no sound image "
            r"\(its folders are 'Bird', 'Cat', 'Dog', 'in'\): correct it, or leave it out",
        ),
        (images("Cat", "Dog"), ["Cats", "Dogs"], r"names 'Cats' and 'Dogs', of which .* folders are 'Cat', 'Dog'\)"),
        (
            images("train/Cat", "train/Dog", "test/Cat"),
            ["Cat", "Dgo"],
            r"'Dgo', of which .* folders are 'Cat', 'Dog', 'test', 'train'\)",
        ),
        (named("cat.{}.jpg", "dog.{}.jpg"), ["cat", "dgo"], r"'dgo', of which .* labels are 'cat', 'dog'\)"),
        (["1.jpg", "2.jpg"], ["Cat", "Dog"], r"'Cat' and 'Dog', of which .* \(it has no folders\)"),
        (images(*(f"x{i:02}" for i in range(25))), ["x00", "y"], r"'x18', 'x19' and 5 others\)"),
    ],
)
def test_a_class_that_is_asked_for_and_not_there_is_one_sentence(
    paths: list[str], classes: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_layout(paths, images=paths, classes=classes, name="my.zip")


def test_a_folder_without_an_image_is_no_class_and_what_lies_in_a_class_belongs_to_it() -> None:
    sound = images("Cat", "Dog")
    places = read_layout([*sound, "Cat/deep/cut.jpg", "docs/x.jpg", "read.me"], images=sound)
    assert places["Cat/deep/cut.jpg"] == Place(label="Cat", label_source="folder")
    assert [places[path].reason for path in ("docs/x.jpg", "read.me")] == [Reason.NO_CLASS, Reason.NO_CLASS]


def test_a_system_file_keeps_the_class_that_it_lies_in() -> None:
    sound = images("in/Cat", "in/Dog")
    places = read_layout([*sound, "in/Cat/Thumbs.db"], images=sound)
    assert places["in/Cat/Thumbs.db"] == Place(label="Cat", label_source="folder", reason=Reason.SYSTEM_FILE)


PREFIXES: dict[str, tuple[list[str], dict[str, str]]] = {
    "the original competition": (
        [*named("train/cat.{}.jpg", "train/dog.{}.jpg", count=20), *named("test/{}.jpg", count=9)],
        {"train/cat.0.jpg": "cat train", "train/dog.19.jpg": "dog train", "test/8.jpg": "no label"},
    ),
    "one folder": (
        named("images/great_pyrenees_{}.jpg", "images/pug_{}.jpg"),
        {"images/great_pyrenees_0.jpg": "great_pyrenees", "images/pug_2.jpg": "pug"},
    ),
    "trimaps of the same names": (
        named("images/pug_{}.jpg", "images/boxer_{}.jpg", "annotations/trimaps/pug_{}.png"),
        {"images/pug_0.jpg": "pug", "annotations/trimaps/pug_0.png": "not in a class folder"},
    ),
    "no folder": (named("cat ({}).jpg", "Cat-{}.png", "dog ({}).jpg"), {"cat (1).jpg": "cat", "Cat-0.png": "cat"}),
    "cameras": (named("IMG_{}.jpg", "DSC_{}.jpg"), {"IMG_0.jpg": "not in a class folder"}),
    "hashes": (
        [f"{word}_{number}.jpg" for number, word in enumerate(["aa", "bb", "cc", "dd", "ee", "ff"])],
        {"aa_0.jpg": "not in a class folder"},
    ),
}


@pytest.mark.parametrize("layout", PREFIXES)
def test_labels_in_front(layout: str) -> None:
    paths, expected = PREFIXES[layout]
    places = read_layout(paths, images=paths)
    found = {path: places[path].reason or f"{places[path].label} {places[path].split}".strip() for path in expected}
    assert {path: what.casefold() for path, what in found.items()} == expected


def test_folders_count_more_than_names() -> None:
    paths = named("Cat/felix_{}.jpg", "Cat/tom_{}.jpg", "Dog/rex_{}.jpg")
    assert {place.label for place in read_layout(paths, images=paths).values()} == {"Cat", "Dog"}
    by_name = read_layout(paths, images=paths, kind="prefix")
    assert {place.label for place in by_name.values()} == {"felix", "tom", "rex"}


FLAT = images("images", count=6)
LABELS = ["dog", "cat", "cat", "dog", "cat", "dog"]


@pytest.mark.parametrize(
    "line",
    [
        "images/{name}.jpg,{label}",
        "{name}.jpg,{label}",
        "{name},{label}",
        "C:\\me\\images\\{name}.jpg,{label}",
        "./images/{name}.JPG, {label} ",
    ],
)
@pytest.mark.parametrize("header", ["file,label", "id,breed", "Image,Category", "", "image_id,class_name"])
def test_names_and_columns_as_people_have_them(line: str, header: str) -> None:
    lines = [
        line.format(name=path.removeprefix("images/").removesuffix(".jpg"), label=label)
        for path, label in zip(FLAT, LABELS, strict=True)
    ]
    labels = table("\n".join([header, *lines] if header else lines), FLAT)
    assert labels == LabelTable(name="labels.csv", labels=tuple(zip(FLAT, LABELS, strict=True)))
    places = read_layout([*FLAT, "labels.csv"], images=FLAT, tables=[labels])
    assert [places[path].label for path in FLAT] == LABELS
    assert {places[path].label_source for path in FLAT} == {"labels.csv"}
    assert places["labels.csv"].reason == ""


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_columns_and_delimiters(delimiter: str) -> None:
    header = ["width", "split", "target", "path"]
    lines = [["9", split, label, path] for path, label, split in zip(FLAT, LABELS, ["train", "Test"] * 3, strict=True)]
    labels = table("\n".join(delimiter.join(line) for line in [header, *lines]), FLAT)
    places = read_layout(FLAT, images=FLAT, tables=[labels])
    assert [(places[path].label, places[path].split) for path in FLAT[:2]] == [("dog", "train"), ("cat", "test")]


def test_what_is_no_table_of_labels() -> None:
    index = index_names(FLAT)
    sizes = "".join(f"{path},{100 + number % 2}\n" for number, path in enumerate(FLAT))
    captions = "".join(f"{path},number {number}\n" for number, path in enumerate(FLAT))
    for text in (f"file,width\n{sizes}", f"file,text\n{captions}"):
        assert parse_labels(text, index, name="x.csv") is None
    for text in ("", "id\n1", "a,b\n1,2", f"file,width,height\n{FLAT[0]},3,4", "file,label\nx.jpg,cat\ny.jpg,dog"):
        assert parse_labels(text, index, name="x.csv") is None


def test_a_missing_table_is_one_sentence_and_found_before_the_download(tmp_path: Path) -> None:
    missing = tmp_path / "labels.csv"
    said = r"^data\.labels: .*labels\.csv cannot be read \(No such file or directory\); correct its name$"
    with pytest.raises(DataError, match=said):
        read_label_tables(tmp_path, ["1.jpg"], beside=missing)
    with pytest.raises(DataError, match=said):
        check_labels(LayoutParams(labels=str(missing)))
    check_labels(AS_FOUND)


def test_lines_that_name_nothing_are_counted() -> None:
    text = "file,label\n" + "".join(f"{path},{label}\n" for path, label in zip(FLAT, LABELS, strict=True)) + "gone,cat"
    assert table(text, FLAT).unmatched == 1


def test_images_without_a_line_and_with_two_labels() -> None:
    text = "file,label\n" + "".join(f"{path},{label}\n" for path, label in zip(FLAT[:5], LABELS, strict=False))
    places = read_layout(FLAT, images=FLAT, tables=[table(f"{text}{FLAT[0]},cat\n", FLAT)])
    assert [places[FLAT[i]].reason for i in (0, 1, 5)] == [Reason.LABEL_CONFLICT, "", Reason.NO_LABEL]


def test_a_table_names_its_own_folder() -> None:
    paths = [f"{split}/{number}.jpg" for split in ("train", "test") for number in range(4)]
    text = "id,label\n" + "".join(f"{number},{'cat' if number % 2 else 'dog'}\n" for number in range(4))
    places = read_layout(paths, images=paths, tables=[table(text, paths, "train.csv")])
    assert summary({path: places[path] for path in ("train/0.jpg", "test/0.jpg")}) == {
        "train": "dog train",
        "test": "no label",
    }


def test_tiny_imagenet_has_the_labels_of_val_in_a_table(tmp_path: Path) -> None:
    paths = images("train/n01/images", "train/n02/images")
    val = named("val/images/val_{}.JPEG", count=4)
    test = named("test/images/test_{}.JPEG", count=3)
    for path in [*paths, *val, *test]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    lines = [f"val_{number}.JPEG\tn0{number % 2 + 1}\t0\t32\t44\t62\n" for number in range(4)]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines), encoding="utf-8")
    tables = read_label_tables(tmp_path, [*paths, *val, *test, "val/val_annotations.txt"])
    places = read_layout([*paths, *val, *test], images=[*paths, *val, *test], tables=tables)
    assert {(places[path].label, places[path].split) for path in paths} == {("n01", "train"), ("n02", "train")}
    assert [(places[path].label, places[path].split, places[path].label_source) for path in val] == [
        (f"n0{number % 2 + 1}", "val", "val/val_annotations.txt") for number in range(4)
    ]
    assert {places[path].reason for path in test} == {Reason.NO_LABEL}
    # A table of classes that no folder has says nothing about the images in none.
    others = [replace(table, labels=tuple((path, "n03") for path, _ in table.labels)) for table in tables]
    assert {
        place.reason
        for path, place in read_layout([*paths, *val], images=[*paths, *val], tables=others).items()
        if path in val
    } == {Reason.NO_LABEL}


def test_folders_and_a_table_that_agree_are_one_reading_and_else_two() -> None:
    paths = images("n01", "n02")
    same = "".join(f"{path},{'cat' if path.startswith('n01') else 'dog'}\n" for path in paths)
    assert read_layout(paths, images=paths, tables=[table(same, paths)])[paths[0]].label == "n01"
    other = "".join(f"{path},{'cat' if number % 2 else 'dog'}\n" for number, path in enumerate(paths))
    with pytest.raises(DataError, match=r"set data\.layout: folders for the former, data\.layout: csv for the latter"):
        read_layout(paths, images=paths, tables=[table(other, paths)])
    chosen = read_layout(paths, images=paths, tables=[table(other, paths)], kind="csv")
    assert chosen[paths[0]].label == "dog"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("csv", "holds no table of labels: name one in data.labels"),
        ("prefix", "has no file names like"),
        ("split_folders", "has no folders train and test"),
    ],
)
def test_a_layout_that_is_not_there_is_one_sentence(kind: Any, message: str) -> None:
    paths = images("Cat", "Dog")
    with pytest.raises(DataError, match=message):
        read_layout(paths, images=paths, kind=kind)


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("Test", "test", ()),
        ("testing", "test", ()),
        ("test1", "test", ()),
        ("TestSet", "test", ()),
        ("train_images", "train", ()),
        ("valid", "val", ()),
        ("Validation", "val", ()),
        ("seg_train", "train", ("seg",)),
        ("contest", "", ("contest",)),
        ("train_test", "", ()),
        ("Cat", "", ("cat",)),
    ],
)
def test_names_of_splits(name: str, split: str, rest: tuple[str, ...]) -> None:
    assert split_word(name) == (split, rest)


@pytest.mark.parametrize("path", ["a/Icon\r", "a/Icon\u240d", "Thumbs.db", "a/.DS_Store", ".git/x", "a/__MACOSX/._x"])
def test_system_files(path: str) -> None:
    assert is_system_file(path)
    assert not is_system_file("a/Icon.jpg")
