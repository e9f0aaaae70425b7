"""manifest.csv -> splits.csv: which images are for training, validation and test."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from thaw.data.manifest import Row, read_manifest
from thaw.data.splits_csv import SPLITS, write_splits
from thaw.errors import DataError
from thaw.params import NO_FILE, TEST_FOLDER_IF_ANY, SplitParams
from thaw.utils.words import count, enumerate_words

CLASSES_NAMED = 5
"""So many classes an error names."""


def split_images(manifest: Path, destination: Path, *, params: SplitParams) -> None:
    """Give each kept image of the manifest to train, val or test, and write splits.csv, sorted by path.

    The split is stratified: in each class the images (groups of duplicates, which stay together) are ranked by a hash
    of their content and the seed; the first `params.test_fraction` of them are test, the next `params.val_fraction`
    val, the others train, each at least one. So three different images of a class are enough.

    It does not depend on names, on other classes, on the file system or on the order. Images that are added to a class
    or leave it move the two borders between the ranks a little, and what lies between an old border and the new one
    changes its split: with a tenth more images, about 0.23 n^0.5 of the n that a class had (3 of 200, 20 of 10,000).

    Where the manifest gives a test or a val split (its folders are called so), or `params.test_list` or
    `params.test_folder` name the test images, that split holds exactly the kept images that are named: results compare
    with those of others. Their duplicates elsewhere are in no split at all, since they would leak the test into the
    training. The rest is drawn: of the images that are not test, `params.val_fraction` is val; where val alone is
    given, `params.test_fraction` of the images that are not val is test. With `params.test_folder` null, all is drawn.

    Raises:
        DataError: the test list or folder names what is not there, or a split lacks a class.
    """
    rows = read_manifest(manifest)
    kept = [row for row in rows if row.kept]
    given = _find_given(rows, manifest, params=params)
    names = set(given.values())
    splits, undecided = _assign_given(kept, given)
    _require_given(kept, splits, params=params, given=names)
    _require_enough(kept, undecided, given=names)
    for of_class in undecided.values():
        drawn = draw_splits(
            {_name_group(members, seed=params.seed) for members in of_class},
            val_fraction=0.0 if "val" in names else params.val_fraction,
            test_fraction=0.0 if "test" in names else params.test_fraction,
        )
        splits |= {row.path: drawn[_name_group(members, seed=params.seed)] for members in of_class for row in members}
    group_of = {row.path: _name_group(members, seed=params.seed) for members in _group(kept) for row in members}
    table = [(row.path, row.label, splits[row.path], group_of[row.path]) for row in kept if row.path in splits]
    write_splits(destination, table, given=names)


def draw_splits(groups: Collection[str], *, val_fraction: float, test_fraction: float) -> dict[str, str]:
    """The split of each group of one class, by its rank.

    Args:
        groups: their names, hashes of content and seed; at least one for each split with a fraction above 0, and one
            more, which is train.
        val_fraction: of all groups, rounded; where it is above 0, at least one group and not all.
        test_fraction: likewise.
    """
    tests = _count_share(test_fraction, of=len(groups), leave=1 + (val_fraction > 0))
    vals = _count_share(val_fraction, of=len(groups), leave=1 + tests)
    ranked = sorted(groups)
    splits = dict.fromkeys(ranked[:tests], "test") | dict.fromkeys(ranked[tests : tests + vals], "val")
    return splits | dict.fromkeys(ranked[tests + vals :], "train")


def _count_share(fraction: float, *, of: int, leave: int) -> int:
    return min(max(1, round(fraction * of)), of - leave) if fraction > 0 else 0


def _lies_below(row: Row, folder: str) -> bool:
    """Whether an image lies in a folder of that name that is not its class folder."""
    folders = PurePosixPath(row.path).parts[:-1]
    return folders.count(folder) > (row.label == folder)


def _assign_given(kept: list[Row], given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[list[Row]]]]:
    """The split of each path whose split is given, and for each class the groups of duplicates without such a path."""
    splits: dict[str, str] = {}
    undecided: dict[str, list[list[Row]]] = defaultdict(list)
    for members in _group(kept):
        found = {given[row.path] for row in members if row.path in given}
        if found:
            # Of a group that has images of both, those of val are left out as those of train are.
            split = "test" if "test" in found else "val"
            splits.update({row.path: split for row in members if given.get(row.path) == split})
        else:
            undecided[members[0].label].append(members)
    return splits, undecided


def _group(kept: Iterable[Row]) -> Collection[list[Row]]:
    """Images that are duplicates of each other, together; of one class, since cleaning drops label conflicts."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in kept:
        groups[row.duplicate_group or row.path].append(row)
    return groups.values()


def _name_group(members: Iterable[Row], *, seed: int) -> str:
    """A hash of what a group of duplicates shows, whatever its files are called, and of the seed: its place in draws.

    What stands for the group is the smallest hash of its pixels. All later draws (of each seed's val, of fractions of
    the training images, of folds) go by this name, so that `split.seed` changes them too.
    """
    content = min(row.pixels_sha256 for row in members)
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def _find_given(rows: list[Row], manifest: Path, *, params: SplitParams) -> dict[str, str]:
    """The paths of kept images whose split is given -> test or val."""
    kept = [row for row in rows if row.kept]
    if params.test_folder is None and params.listed is None:
        return {}
    given = {row.path: row.split for row in kept if row.split in ("val", "test")}
    if params.listed is None and params.test_folder == TEST_FOLDER_IF_ANY:
        return given
    val = {path: split for path, split in given.items() if split == "val" and params.test_folder is not None}
    if params.listed is not None:
        listed = _find_listed(params.listed, rows, manifest)
        test = {row.path: "test" for row in kept if row.path in listed}
        if not test:
            raise DataError(
                f"split.test_list: no image that {params.listed} names is kept, {manifest} says why; name others in it"
            )
        return val | test
    folder = str(params.test_folder)
    below = {row.path: "test" for row in kept if _lies_below(row, folder)}
    if not below:
        raise DataError(
            f"split.test_folder is {folder!r}, but no kept image in {manifest} lies in a class folder "
            "below a folder of that name: correct it, or set it to null to draw the test split"
        )
    return val | below


def check_test_list(params: SplitParams) -> None:
    """Make sure, before an archive is downloaded, that `split.test_list` can be read and names something.

    Raises:
        DataError: it cannot, or does not.
    """
    if params.listed is not None:
        _read_lines(params.listed)


def _read_lines(test_list: Path) -> list[str]:
    try:
        text = test_list.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"split.test_list: {test_list} cannot be read as UTF-8 text: {error}") from None
    if not text.strip():
        raise DataError(
            f"split.test_list: {test_list} names no image: name the test images in it, one a line, or set "
            f"split.test_list to {NO_FILE}"
        )
    return text.split("\n")


def _find_listed(test_list: Path, rows: list[Row], manifest: Path) -> set[str]:
    """The paths that the lines of `test_list` mean: whole ones, or ends of exactly one path.

    A listed image that was dropped in cleaning stays dropped: the manifest says why.
    """
    by_end: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        parts = PurePosixPath(row.path).parts
        for start in range(len(parts)):
            by_end["/".join(parts[start:])].append(row.path)
    paths = {row.path for row in rows}
    listed = set()
    for number, line in enumerate(_read_lines(test_list), start=1):
        end = line.strip()
        if not end:
            continue
        matches = [end] if end in paths else by_end.get(end, [])
        if len(matches) != 1:
            problem = f"could mean {matches[0]} or {matches[1]}" if matches else f"is not in {manifest}"
            raise DataError(f"{test_list}, line {number}: {end!r} {problem}: correct the line or remove it")
        listed.add(matches[0])
    return listed


def _require_given(
    kept: Iterable[Row], splits: Mapping[str, str], *, params: SplitParams, given: Collection[str]
) -> None:
    """Raise DataError if a split that is given lacks a class."""
    labels = sorted({row.label for row in kept})
    present = {(splits[row.path], row.label) for row in kept if row.path in splits}
    for split in SPLITS:
        missing = [label for label in labels if (split, label) not in present]
        if split in given and missing:
            by_list = split == "test" and params.listed is not None
            remedy = (
                f"name some in {params.listed}"
                if by_list
                else f"put some below the folder of {split} images, or set split.test_folder to null to draw all splits"
            )
            raise DataError(f"the {split} split, which is given, has no image of {_name_classes(missing)}: {remedy}")


def _require_enough(kept: Iterable[Row], undecided: Mapping[str, list[list[Row]]], *, given: Collection[str]) -> None:
    """Raise DataError if a class has fewer different images than there are splits that are not given."""
    drawn = [split for split in SPLITS if split not in given]
    counts = {label: len(undecided.get(label, ())) for label in sorted({row.label for row in kept})}
    few = sorted((number, label) for label, number in counts.items() if number < len(drawn))
    if not few:
        return
    files = {label: sum(len(members) for members in undecided.get(label, ())) for _, label in few}
    named = [
        f"{label!r} has {number}" + (f" ({files[label]} files are copies)" if files[label] > number else "")
        for number, label in few[:CLASSES_NAMED]
    ]
    if len(few) > CLASSES_NAMED:
        named.append(f"{count(len(few) - CLASSES_NAMED, 'other class', 'other classes')} too few")
    images = "image" if len(drawn) == 1 else "different images"
    rest = f" beside the {enumerate_words(sorted(given))} images that are given" if given else ""
    raise DataError(
        f"each class needs at least {len(drawn)} {images}{rest}, one for each of {enumerate_words(drawn)}; "
        f"{enumerate_words(named)}: add images to these classes, or leave them out by naming the others in data.classes"
    )


def _name_classes(labels: list[str]) -> str:
    """`class 'Cat'`, `3 classes ('Cat', 'Dog', 'Emu')`; of many, some."""
    if len(labels) == 1:
        return f"class {labels[0]!r}"
    shown = ", ".join(repr(label) for label in labels[:CLASSES_NAMED])
    return f"{len(labels)} classes ({shown}{', ...' if len(labels) > CLASSES_NAMED else ''})"
