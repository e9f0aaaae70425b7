"""splits.csv comes back as it was written, and the train and val splits can be drawn anew.

Run with `pytest tests/data/test_splits_csv.py`.
"""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.data.splits_csv import (
    SPLITS,
    SplitTable,
    read_splits,
    redraw_val,
    summarise_splits,
    thin_train,
    write_splits,
)
from thaw.errors import DataError

ROWS = [
    ("Cat/1.jpg", "Cat", "train", "Cat/1.jpg"),
    ("Cat/2.jpg", "Cat", "val", "Cat/2.jpg"),
    ("Dog/Köter, 1.jpg", "Dog", "test", "Dog/Köter, 1.jpg"),
    ("Dog/Köter, 2.jpg", "Dog", "test", "Dog/Köter, 1.jpg"),
]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.csv", ROWS)
    table = read_splits(tmp_path / "splits.csv")
    assert list(zip(table.paths, table.labels, table.splits, table.groups, strict=True)) == ROWS
    assert table.classes == ("Cat", "Dog")
    assert table.given == set()
    assert summarise_splits(tmp_path / "splits.csv").startswith("1 train, 1 val, 2 test (")


def test_a_given_val_is_the_same_for_all_seeds(tmp_path: Path) -> None:
    rows = [(f"{label}/{i}.jpg", label, "val" if i < 4 else "train", f"{i}") for label in ("a", "b") for i in range(20)]
    write_splits(tmp_path / "splits.csv", rows, given={"val"})
    table = read_splits(tmp_path / "splits.csv")
    assert table.given == {"val"}
    assert redraw_val(table, seed=1) == table
    write_splits(tmp_path / "splits.csv", rows, given={"test"})
    table = read_splits(tmp_path / "splits.csv")
    assert redraw_val(table, seed=1) != table


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"splits\.csv does not exist: run `dvc repro`, which runs the stage split"):
        read_splits(tmp_path / "splits.csv")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("path,label,split\na,b,train\n", "has no column 'group'; delete it and run `dvc repro`"),
        ("path,label,split,group,given\n", "has no rows"),
        ("path,label,split,group,given\na,b,dev,a,false\n", ": 'dev' is not a split; expected one of train, val, test"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_splits(path)
    assert complaint in str(caught.value)


def table_of(rows: list[tuple[str, str, str, str]]) -> SplitTable:
    paths, labels, splits, groups = zip(*sorted(rows), strict=True)
    return SplitTable(paths=paths, labels=labels, splits=splits, groups=groups)


def rows_of(counts: dict[str, int]) -> list[tuple[str, str, str, str]]:
    """So many images a class, in pairs of duplicates, a fifth of them val and as many test."""
    rows = []
    for label, count in counts.items():
        for i in range(count):
            split = ("train", "train", "val", "test", "train")[i // 2 % 5]
            rows.append((f"{label}/{i:04}", label, split, f"{label}/{i - i % 2:04}"))
    return rows


TABLE = table_of(rows_of({"Cat": 400, "Dog": 200, "Emu": 40}))


def paths_in(table: SplitTable, split: str) -> set[str]:
    return {path for path, name in zip(table.paths, table.splits, strict=True) if name == split}


@pytest.mark.parametrize("seed", range(5))
def test_a_redrawn_val_leaves_test_alone_and_keeps_duplicates_together(seed: int) -> None:
    drawn = redraw_val(TABLE, seed=seed)
    assert (drawn.paths, drawn.labels, drawn.groups) == (TABLE.paths, TABLE.labels, TABLE.groups)
    assert paths_in(drawn, "test") == paths_in(TABLE, "test")
    splits_of: dict[str, set[str]] = {}
    for group, split in zip(drawn.groups, drawn.splits, strict=True):
        splits_of.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())


@pytest.mark.parametrize("seed", range(5))
def test_each_class_keeps_its_share_of_val(seed: int) -> None:
    drawn = redraw_val(TABLE, seed=seed)
    before = Counter(zip(TABLE.labels, TABLE.splits, strict=True))
    assert Counter(zip(drawn.labels, drawn.splits, strict=True)) == before


def test_another_seed_is_another_val_and_the_same_seed_the_same() -> None:
    vals = [frozenset(paths_in(redraw_val(TABLE, seed=seed), "val")) for seed in range(10)]
    assert len(set(vals)) == 10
    assert paths_in(redraw_val(TABLE, seed=3), "val") == vals[3]
    # Independent draws of a quarter: two have a quarter of their images in common, on average.
    shared = [len(vals[a] & vals[b]) / len(vals[a]) for a in range(10) for b in range(a)]
    assert 0.2 < sum(shared) / len(shared) < 0.3


def test_drawing_again_from_a_draw_gives_the_same() -> None:
    assert redraw_val(redraw_val(TABLE, seed=1), seed=2) == redraw_val(TABLE, seed=2)


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = list(zip(TABLE.paths, TABLE.labels, TABLE.splits, TABLE.groups, strict=True))
    random.Random(0).shuffle(rows)
    paths, labels, splits, groups = zip(*rows, strict=True)
    drawn = redraw_val(SplitTable(paths=paths, labels=labels, splits=splits, groups=groups), seed=0)
    expected = redraw_val(TABLE, seed=0)
    assert dict(zip(drawn.paths, drawn.splits, strict=True)) == dict(zip(expected.paths, expected.splits, strict=True))


@given(
    groups=st.integers(2, 30),
    val=st.integers(1, 29),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_class_is_in_train_and_in_val(groups: int, val: int, seed: int) -> None:
    # The second class sets a share of val that would leave the first without any, or without anything else.
    rows = [(f"a/{i:02}", "a", "val" if i == 0 else "train", f"a/{i:02}") for i in range(groups)]
    rows += [(f"b/{i:02}", "b", "val" if i < val else "train", f"b/{i:02}") for i in range(30)]
    drawn = redraw_val(table_of(rows), seed=seed)
    found = set(zip(drawn.labels, drawn.splits, strict=True))
    assert found == {(label, split) for label in ("a", "b") for split in SPLITS if split != "test"}


def test_a_fraction_of_the_training_images_is_nested_and_touches_nothing_else() -> None:
    assert thin_train(TABLE, fraction=1.0, seed=0) is TABLE
    larger: set[str] = paths_in(TABLE, "train")
    for fraction in (0.5, 0.25, 0.001):
        thin = thin_train(TABLE, fraction=fraction, seed=0)
        assert [paths_in(thin, split) for split in ("val", "test")] == [paths_in(TABLE, s) for s in ("val", "test")]
        train = paths_in(thin, "train")
        assert train < larger
        larger = train
        counts = Counter(label for label, split in zip(thin.labels, thin.splits, strict=True) if split == "train")
        before = Counter(label for label, split in zip(TABLE.labels, TABLE.splits, strict=True) if split == "train")
        # In whole groups of two, at least one.
        assert all(abs(counts[label] - max(2, fraction * before[label])) <= 1 for label in before)
        left_out = paths_in(TABLE, "train") - train
        group_of = dict(zip(TABLE.paths, TABLE.groups, strict=True))
        assert not {group_of[path] for path in train} & {group_of[path] for path in left_out}
    assert thin_train(TABLE, fraction=0.5, seed=0) != thin_train(TABLE, fraction=0.5, seed=1)


def test_thinning_keeps_what_was_given() -> None:
    table = SplitTable(
        paths=("a/1", "a/2", "a/3", "a/4"),
        labels=("a",) * 4,
        splits=("train", "train", "val", "test"),
        groups=("1", "2", "3", "4"),
        given=frozenset({"val"}),
    )
    thinned = thin_train(table, fraction=0.5, seed=0)
    assert thinned.given == table.given
    assert redraw_val(thinned, seed=1) == thinned
