"""The split: stable, the same everywhere, and never across a group of duplicates.

Run with `pytest tests/data/test_split.py`.
"""

import csv
import dataclasses
import hashlib
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.data.manifest import Reason, Row, write_manifest
from thaw.data.split import check_test_list, draw_splits, split_images
from thaw.data.splits_csv import read_splits, redraw_val
from thaw.errors import DataError
from thaw.params import NO_FILE, TEST_FOLDER_IF_ANY, SplitParams

PARAMS = SplitParams(val_fraction=0.2, test_fraction=0.3, seed=0, val="per_seed", test_list=NO_FILE, test_folder=None)
AUTO = PARAMS.model_copy(update={"test_folder": TEST_FOLDER_IF_ANY})


def row(path: str, *, group: str = "", kept: bool = True, content: str | None = None, given: str = "") -> Row:
    return Row(
        path=path,
        label=Path(path).parent.name,
        bytes=1,
        sha256="0" * 64,
        kept=kept,
        reason="" if kept else Reason.TRUNCATED,
        pixels_sha256=hashlib.sha256((content or path).encode()).hexdigest(),
        duplicate_group=group,
        split=given,
    )


def rows_of(count: int = 60, *, prefix: str = "", given: str = "") -> list[Row]:
    return [row(f"{prefix}{label}/{i}.jpg", given=given) for label in ("Cat", "Dog") for i in range(count)]


def split(folder: Path, rows: list[Row], params: SplitParams = PARAMS) -> dict[str, str]:
    write_manifest(folder / "manifest.csv", rows)
    split_images(folder / "manifest.csv", folder / "splits.csv", params=params)
    with (folder / "splits.csv").open(encoding="utf-8", newline="") as file:
        return {line["path"]: line["split"] for line in csv.DictReader(file)}


def test_the_file_is_the_same_everywhere(tmp_path: Path) -> None:
    split(tmp_path, [*rows_of(30), row("Dog/cut.jpg", kept=False)])
    text = (tmp_path / "splits.csv").read_bytes()
    assert text.startswith(b"path,label,split,group,given\nCat/0.jpg,Cat,train,d8c8f6b9fb60")
    assert text.count(b"\n") == 61
    # A golden value, without the groups: a change of it would reshuffle everybody's data.
    drawn = b"".join(line.rsplit(b",", 2)[0] + b"\n" for line in text.splitlines())
    assert hashlib.sha256(drawn).hexdigest() == "c33cb03503a89b455dbd02d750f5fdf0a950b7895c2ed9abd199220d226d3deb"


@given(
    order=st.randoms(use_true_random=False),
    others=st.sets(st.integers(0, 400), min_size=20),
)
@settings(max_examples=10, deadline=None)
def test_other_classes_and_another_order_move_no_image(
    tmp_path_factory: pytest.TempPathFactory, order: random.Random, others: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("split")
    before = split(folder, rows_of())
    changed = [*rows_of(), *(row(f"Emu/{i}.jpg") for i in sorted(others))]
    order.shuffle(changed)
    after = split(folder, changed)
    assert all(after[path] == before[path] for path in before)


@given(count=st.integers(4, 300), added=st.floats(0, 0.1), draw=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_a_tenth_more_images_move_few(count: int, added: float, draw: int) -> None:
    more = max(1, round(added * count))
    names = [hashlib.sha256(f"{draw}:{i}".encode()).hexdigest() for i in range(count + more)]
    before = draw_splits(names[:count], val_fraction=0.2, test_fraction=0.3)
    after = draw_splits(names, val_fraction=0.2, test_fraction=0.3)
    moved = [name for name in before if after[name] != before[name]]
    # The measured mean is 0.23 count^0.5; each of the two borders moves by at most `more`, and rounding by one more.
    assert len(moved) <= 2 * (more + 1)
    assert len(moved) <= 2 + 1.5 * count**0.5
    # What moves goes one border on: test and train change no image with each other, unless val is small.
    assert count < 20 or not any({before[name], after[name]} == {"test", "train"} for name in moved)


def test_few_images_move_on_average() -> None:
    moved = []
    for draw in range(200):
        names = [hashlib.sha256(f"{draw}:{i}".encode()).hexdigest() for i in range(220)]
        before = draw_splits(names[:200], val_fraction=0.2, test_fraction=0.3)
        after = draw_splits(names, val_fraction=0.2, test_fraction=0.3)
        moved.append(sum(after[name] != before[name] for name in before))
    assert sum(moved) / len(moved) < 0.02 * 200


@pytest.mark.parametrize("removed", [1, 6])
def test_images_that_leave_move_few(tmp_path: Path, removed: int) -> None:
    before = split(tmp_path, rows_of())
    after = split(tmp_path, [one for one in rows_of() if Path(one.path).stem not in set(map(str, range(removed)))])
    assert sum(after[path] != before[path] for path in after) <= 2 * 2 * removed


def test_renaming_moves_no_image(tmp_path: Path) -> None:
    before = split(tmp_path, rows_of())
    after = split(tmp_path, [row(f"x/{one.path}", content=one.path) for one in rows_of()])
    assert {f"x/{path}": value for path, value in before.items()} == after


@given(st.lists(st.integers(0, 30), min_size=120, max_size=120), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_no_group_straddles_a_border(tmp_path_factory: pytest.TempPathFactory, numbers: list[int], seed: int) -> None:
    # The second half stands alone, so that each class is in each split.
    rows = rows_of() + [row(f"{label}/alone{i}.jpg") for label in ("Cat", "Dog") for i in range(200)]
    first_of: dict[int, str] = {}
    for i, number in enumerate(numbers):
        rows[i] = row(rows[i].path, group=first_of.setdefault(number, rows[i].path))
    splits = split(tmp_path_factory.mktemp("split"), rows, PARAMS.model_copy(update={"seed": seed}))
    groups: dict[str, set[str]] = {}
    for one in rows:
        groups.setdefault(one.duplicate_group or one.path, set()).add(splits[one.path])
    assert all(len(found) == 1 for found in groups.values())


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"Cat": 1000, "Dog": 1000}, {"Cat": (500, 200, 300), "Dog": (500, 200, 300)}),
        ({"Cat": 3, "Dog": 4, "Emu": 8}, {"Cat": (1, 1, 1), "Dog": (2, 1, 1), "Emu": (4, 2, 2)}),
        ({f"c{i:03}": 14 for i in range(200)}, {f"c{i:03}": (7, 3, 4) for i in range(200)}),
        ({"Cat": 80, "Dog": 6, "Emu": 5}, {"Cat": (40, 16, 24), "Dog": (3, 1, 2), "Emu": (2, 1, 2)}),
    ],
    ids=["large", "tiny", "many", "unbalanced"],
)
def test_each_class_is_divided_by_the_fractions(
    tmp_path: Path, counts: dict[str, int], expected: dict[str, tuple[int, int, int]]
) -> None:
    splits = split(tmp_path, [row(f"{label}/{i}.jpg") for label, count in counts.items() for i in range(count)])
    found = Counter((path.partition("/")[0], value) for path, value in splits.items())
    assert {label: tuple(found[label, name] for name in ("train", "val", "test")) for label in counts} == expected


def test_images_are_counted_without_their_copies(tmp_path: Path) -> None:
    rows = rows_of(20) + [row(f"Cat/copy{i}.jpg", group="Cat/0.jpg") for i in range(100)]
    rows[0] = row("Cat/0.jpg", group="Cat/0.jpg")
    splits = split(tmp_path, rows)
    alone = Counter(splits[one.path] for one in rows if one.label == "Cat" and not one.duplicate_group)
    whole = alone + Counter([splits["Cat/0.jpg"]])
    assert whole == {"train": 10, "val": 4, "test": 6}


@given(
    counts=st.lists(st.integers(3, 30), min_size=2, max_size=5),
    fractions=st.tuples(st.floats(0.01, 0.98), st.floats(0.01, 0.98)).filter(lambda pair: sum(pair) < 0.99),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_every_class_is_in_every_split(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], fractions: tuple[float, float], seed: int
) -> None:
    rows = [row(f"{label}/{i}.jpg") for label, count in enumerate(counts) for i in range(count)]
    params = PARAMS.model_copy(update={"val_fraction": fractions[0], "test_fraction": fractions[1], "seed": seed})
    splits = split(tmp_path_factory.mktemp("split"), rows, params)
    found = {(path.partition("/")[0], value) for path, value in splits.items()}
    assert found == {(str(label), name) for label in range(len(counts)) for name in ("train", "val", "test")}


def test_duplicates_are_written_with_what_their_group_shows(tmp_path: Path) -> None:
    rows = rows_of()
    rows[4] = row(rows[4].path, group=rows[3].path)
    rows[3] = row(rows[3].path, group=rows[3].path)
    split(tmp_path, rows)
    table = read_splits(tmp_path / "splits.csv")
    groups = dict(zip(table.paths, table.groups, strict=True))
    content = min(one.pixels_sha256 for one in rows[3:5])
    name = hashlib.sha256(f"0:{content}".encode()).hexdigest()
    assert {groups[path] for path in ("Cat/3.jpg", "Cat/4.jpg")} == {name}
    assert len(set(groups.values())) == len(rows) - 1


def test_another_seed_is_another_split(tmp_path: Path) -> None:
    assert split(tmp_path, rows_of()) != split(tmp_path, rows_of(), PARAMS.model_copy(update={"seed": 1}))


def test_another_seed_is_another_val_of_each_training_where_the_test_split_is_given(tmp_path: Path) -> None:
    rows = rows_of(given="train") + rows_of(5, prefix="test/", given="test")
    drawn = []
    for seed in (0, 1):
        split(tmp_path, rows, AUTO.model_copy(update={"seed": seed}))
        table = read_splits(tmp_path / "splits.csv")
        drawn += [table.splits, redraw_val(table, seed=0).splits, redraw_val(table, seed=1).splits]
    assert len(set(drawn)) == len(drawn)


def test_a_given_list_is_the_test_split_and_its_duplicates_are_left_out(tmp_path: Path) -> None:
    rows = rows_of(prefix="PetImages/")
    rows[3] = row(rows[3].path, group=rows[3].path)
    rows[4] = row(rows[4].path, group=rows[3].path)
    rows.append(row("PetImages/Cat/cut.jpg", kept=False))
    listed = tmp_path / "list.txt"
    listed.write_text("\ufeffCat/3.jpg\r\nPetImages/Dog/7.jpg\n\n  PetImages/Cat/cut.jpg\n", encoding="utf-8")
    splits = split(tmp_path, rows, PARAMS.model_copy(update={"test_list": str(listed)}))
    assert {path for path, value in splits.items() if value == "test"} == {"PetImages/Cat/3.jpg", "PetImages/Dog/7.jpg"}
    assert {one.path for one in rows} - set(splits) == {"PetImages/Cat/4.jpg", "PetImages/Cat/cut.jpg"}
    assert {"train", "val"} < set(splits.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Cat/99.jpg", r"list\.txt, line 2: 'Cat/99.jpg' is not in .*manifest\.csv: correct the line or remove it"),
        ("5.jpg", r"line 2: '5.jpg' could mean a/Cat/5.jpg or a/Dog/5.jpg"),
        ("at/5.jpg", r"line 2: 'at/5.jpg' is not in"),
    ],
)
def test_a_wrong_line_in_the_list_is_one_sentence(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(f"Dog/1.jpg\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        split(tmp_path, rows_of(prefix="a/"), PARAMS.model_copy(update={"test_list": str(tmp_path / "list.txt")}))
    assert not (tmp_path / "splits.csv").exists()


def test_a_missing_list_is_one_sentence_and_found_before_the_download(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"test_list": str(tmp_path / "none.txt")})
    with pytest.raises(DataError, match=r"split\.test_list: .*none\.txt cannot be read"):
        split(tmp_path, rows_of(), params)
    with pytest.raises(DataError, match=r"split\.test_list: .*none\.txt cannot be read"):
        check_test_list(params)
    check_test_list(PARAMS)


def test_a_list_without_a_line_is_one_sentence_and_found_before_the_download(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeff \n\n", encoding="utf-8")
    params = PARAMS.model_copy(update={"test_list": str(tmp_path / "list.txt")})
    for check in (lambda: check_test_list(params), lambda: split(tmp_path, rows_of(), params)):
        with pytest.raises(DataError, match=r"split\.test_list: .*list\.txt names no image: name the test images"):
            check()


def test_a_list_of_dropped_images_alone_draws_no_test_split(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("Cat/cut.jpg\n", encoding="utf-8")
    params = PARAMS.model_copy(update={"test_list": str(tmp_path / "list.txt")})
    with pytest.raises(DataError, match=r"split\.test_list: no image that .*list\.txt names is kept"):
        split(tmp_path, [*rows_of(), row("Cat/cut.jpg", kept=False)], params)
    assert not (tmp_path / "splits.csv").exists()


def test_a_given_folder_is_the_test_split(tmp_path: Path) -> None:
    rows = rows_of(prefix="cifar/train/") + rows_of(5, prefix="cifar/test/")
    leaked = "cifar/test/Cat/0.jpg"
    rows[0] = row(rows[0].path, group=leaked)
    rows[120] = row(leaked, group=leaked)
    splits = split(tmp_path, rows, PARAMS.model_copy(update={"test_folder": "test"}))
    assert {path for path, value in splits.items() if value == "test"} == {one.path for one in rows[120:]}
    assert rows[0].path not in splits
    assert len(splits) == len(rows) - 1
    # Of the rest (a cat less, which is a copy), val_fraction is val.
    assert list(splits.values()).count("val") == 12 + 12


def test_a_list_of_the_images_that_would_have_been_drawn_leaves_val_its_share(tmp_path: Path) -> None:
    rows = rows_of()
    drawn = [path for path, value in split(tmp_path, rows).items() if value == "test"]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(drawn), encoding="utf-8")
    splits = split(tmp_path, rows, PARAMS.model_copy(update={"test_list": str(listed)}))
    assert sorted(path for path, value in splits.items() if value == "test") == sorted(drawn)
    assert list(splits.values()).count("val") == 2 * round(0.2 * (60 - 18))


def test_a_test_split_that_the_archive_gives_is_taken(tmp_path: Path) -> None:
    given = rows_of(prefix="set/train/", given="train") + rows_of(5, prefix="set/test/", given="test")
    splits = split(tmp_path, given, AUTO)
    assert splits == split(tmp_path, given, PARAMS.model_copy(update={"test_folder": "test"}))
    assert read_splits(tmp_path / "splits.csv").given == {"test"}
    assert split(tmp_path, rows_of(), AUTO) == split(tmp_path, rows_of())
    # All is pooled where a person says so.
    assert Counter(split(tmp_path, given).values())["test"] > 20
    assert read_splits(tmp_path / "splits.csv").given == set()


def test_a_val_split_that_the_archive_gives_is_taken(tmp_path: Path) -> None:
    rows = rows_of(prefix="train/", given="train") + rows_of(9, prefix="val/", given="val")
    splits = split(tmp_path, rows, AUTO)
    assert {path for path, value in splits.items() if value == "val"} == {one.path for one in rows[120:]}
    assert Counter(splits.values())["test"] == 0.3 * 120  # what is not given is drawn
    assert read_splits(tmp_path / "splits.csv").given == {"val"}
    rows += rows_of(5, prefix="test/", given="test")
    assert Counter(split(tmp_path, rows, AUTO).values()) == {"train": 120, "val": 18, "test": 10}
    assert read_splits(tmp_path / "splits.csv").given == {"val", "test"}
    listed = tmp_path / "list.txt"
    listed.write_text("train/Cat/1.jpg\ntrain/Dog/1.jpg", encoding="utf-8")
    by_list = split(tmp_path, rows, AUTO.model_copy(update={"test_list": str(listed)}))
    assert Counter(by_list.values()) == {"train": 128, "val": 18, "test": 2}


def test_copies_of_given_images_are_in_no_other_split(tmp_path: Path) -> None:
    rows = rows_of(prefix="train/", given="train") + rows_of(9, prefix="val/", given="val")
    rows += rows_of(9, prefix="test/", given="test")
    group = rows[0].path
    copies = {one.path: one for one in (rows[0], rows[120], rows[138])}
    rows = [dataclasses.replace(one, duplicate_group=group) if one.path in copies else one for one in rows]
    splits = split(tmp_path, rows, AUTO)
    assert [splits.get(path) for path in copies] == [None, None, "test"]


def test_a_given_split_that_lacks_a_class_says_what_to_do(tmp_path: Path) -> None:
    rows = [*rows_of(prefix="train/", given="train"), row("val/Cat/1.jpg", given="val")]
    with pytest.raises(
        DataError, match=r"the val split, which is given, has no image of class 'Dog': put some below the folder of"
    ):
        split(tmp_path, rows, AUTO)


def test_a_class_of_copies_is_named_as_what_it_is(tmp_path: Path) -> None:
    copies = [row(f"Emu/{i}.jpg", group="Emu/0.jpg") for i in range(30)]
    message = (
        r"^each class needs at least 3 different images, one for each of train, val and test; "
        r"'Emu' has 1 \(30 files are copies\): add images to these classes, or leave them out .* data\.classes$"
    )
    with pytest.raises(DataError, match=message):
        split(tmp_path, rows_of() + copies)


def test_of_many_classes_that_are_too_small_some_are_named(tmp_path: Path) -> None:
    rows = rows_of() + [row(f"c{i}/{j}.jpg") for i in range(8) for j in range(1 + (i < 6))]
    with pytest.raises(
        DataError, match="'c6' has 1, 'c7' has 1, 'c0' has 2, 'c1' has 2, 'c2' has 2 and 3 other classes"
    ):
        split(tmp_path, rows)


def test_what_is_left_beside_given_images_has_to_do_for_the_other_splits(tmp_path: Path) -> None:
    test = rows_of(5, prefix="test/", given="test")
    rows = [*rows_of(given="train"), *test, row("Emu/0.jpg", given="train"), row("test/Emu/1.jpg", given="test")]
    with pytest.raises(
        DataError,
        match="at least 2 different images beside the test images that are given, one for each of train and val; "
        "'Emu' has 1:",
    ):
        split(tmp_path, rows, AUTO)
    splits = split(tmp_path, [*rows, row("Emu/2.jpg", given="train")], AUTO)
    assert {splits["Emu/0.jpg"], splits["Emu/2.jpg"]} == {"train", "val"}


def test_a_class_of_the_name_of_the_test_folder_is_no_test_folder(tmp_path: Path) -> None:
    rows = [row(f"a/{label}/{i}.jpg") for label in ("test", "other") for i in range(60)]
    with pytest.raises(DataError, match=r"split\.test_folder is 'test', but no kept image .* set it to null"):
        split(tmp_path, rows, PARAMS.model_copy(update={"test_folder": "test"}))


def test_a_class_that_a_split_lacks_is_one_sentence(tmp_path: Path) -> None:
    rare = [*rows_of(), row("Emu/0.jpg")]
    with pytest.raises(DataError, match="'Emu' has 1: add images"):
        split(tmp_path, rare)
    assert not (tmp_path / "splits.csv").exists()


def test_a_class_that_the_list_lacks_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("Cat/1.jpg\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"test split, which is given, has no image of class 'Dog': name some in .*list\.txt"
    ):
        split(tmp_path, rows_of(), PARAMS.model_copy(update={"test_list": str(tmp_path / "list.txt")}))
