"""manifest.csv -> splits.csv: which images are for training, validation and test."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from thaw.data.manifest import Row, read_manifest
from thaw.data.splits_csv import SPLITS, write_splits
from thaw.errors import DataError
from thaw.params import TEST_FOLDER_IF_ANY, SplitParams
from thaw.utils.random_streams import uniform_of


def split_images(manifest: Path, destination: Path, *, params: SplitParams) -> None:
    """Give each kept image of the manifest to train, val or test, and write splits.csv, sorted by path.

    An image's split depends on its content and the seed alone (see `draw_split`), so another image more or less
    moves no other but its own duplicates, and neither does another file system or another order. Duplicates go
    together: the smallest hash of a group decides.

    The price of that: the shares hold in expectation. The number of test images of a class of n varies by
    sqrt(n p (1 - p)) around n p: of 12,500 cats 3,750 +- 51 at 30 %. Every class is divided alike, so the
    split is stratified to the same precision.

    Where the manifest gives a test or a val split (its folders are called so), or `params.test_list` or
    `params.test_folder` names the test images, that split holds exactly the kept images that are named: results compare
    with those of others. Their duplicates elsewhere are in no split at all, since they would leak the test into the
    training. The rest is drawn: of the images that are not test, `params.val_fraction` is val; where val alone is
    given, `params.test_fraction` of the images that are not val is test. With `params.test_folder` null, all is drawn.

    Raises:
        DataError: the test list or folder names what is not there, or a split lacks a class.
    """
    rows = read_manifest(manifest)
    kept = [row for row in rows if row.kept]
    given = _find_given(rows, manifest, params=params)
    splits = _assign(kept, given, params=params)
    _require_every_class(kept, splits, params=params, given=set(given.values()))
    groups = _group(kept).values()
    content = {row.path: _hash_content(members) for members in groups for row in members}
    table = [(row.path, row.label, splits[row.path], content[row.path]) for row in kept if row.path in splits]
    write_splits(destination, table, given=set(given.values()))


def _lies_below(row: Row, folder: str) -> bool:
    """Whether an image lies in a folder of that name that is not its class folder."""
    folders = PurePosixPath(row.path).parts[:-1]
    return folders.count(folder) > (row.label == folder)


def draw_split(pixels_sha256: str, *, seed: int, val_fraction: float, test_fraction: float) -> str:
    """The split of an image: a hash of its content and the seed, read as a number in [0, 1), against thresholds."""
    uniform = uniform_of(f"{seed}:{pixels_sha256}")
    if uniform < test_fraction:
        return "test"
    return "val" if uniform < test_fraction + val_fraction else "train"


def _assign(kept: list[Row], given: Mapping[str, str], *, params: SplitParams) -> dict[str, str]:
    """The split of each path; images that are left out are missing. `given` has those that are test or val already."""
    names = set(given.values())
    splits = {}
    for members in _group(kept).values():
        found = {given[row.path] for row in members if row.path in given}
        if found:
            # Of a group that has images of both, those of val are left out as those of train are.
            split = "test" if "test" in found else "val"
            splits.update({row.path: split for row in members if given.get(row.path) == split})
            continue
        content = _hash_content(members)
        splits.update({row.path: _draw(content, given=names, params=params) for row in members})
    return splits


def _draw(content: str, *, given: Collection[str], params: SplitParams) -> str:
    """The split of an image whose split is not given; those in `given` have all their images already."""
    if "test" in given and "val" in given:
        return "train"
    if "test" in given:
        # Another draw than `draw_split`'s: of the rest of a test split that was drawn by that one, none is left
        # below its thresholds.
        return "val" if uniform_of(f"{params.seed}:val:{content}") < params.val_fraction else "train"
    val_fraction = 0.0 if "val" in given else params.val_fraction
    return draw_split(content, seed=params.seed, val_fraction=val_fraction, test_fraction=params.test_fraction)


def _group(kept: Iterable[Row]) -> dict[str, list[Row]]:
    """Images that are duplicates of each other, together."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in kept:
        groups[row.duplicate_group or row.path].append(row)
    return groups


def _hash_content(members: Iterable[Row]) -> str:
    """What stands for a group of duplicates, whatever its files are called: the smallest hash of their pixels."""
    return min(row.pixels_sha256 for row in members)


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
        return val | {row.path: "test" for row in kept if row.path in listed}
    folder = str(params.test_folder)
    below = {row.path: "test" for row in kept if _lies_below(row, folder)}
    if not below:
        raise DataError(
            f"split.test_folder is {folder!r}, but no kept image in {manifest} lies in a class folder "
            "below a folder of that name: correct it, or set it to null to draw the test split"
        )
    return val | below


def _find_listed(test_list: Path, rows: list[Row], manifest: Path) -> set[str]:
    """The paths that the lines of `test_list` mean: whole ones, or ends of exactly one path.

    A listed image that was dropped in cleaning stays dropped: the manifest says why.
    """
    try:
        lines = test_list.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"split.test_list: {test_list} cannot be read as UTF-8 text: {error}") from None
    by_end: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        parts = PurePosixPath(row.path).parts
        for start in range(len(parts)):
            by_end["/".join(parts[start:])].append(row.path)
    paths = {row.path for row in rows}
    listed = set()
    for number, line in enumerate(lines, start=1):
        end = line.strip()
        if not end:
            continue
        matches = [end] if end in paths else by_end.get(end, [])
        if len(matches) != 1:
            problem = f"could mean {matches[0]} or {matches[1]}" if matches else f"is not in {manifest}"
            raise DataError(f"{test_list}, line {number}: {end!r} {problem}: correct the line or remove it")
        listed.add(matches[0])
    return listed


def _require_every_class(
    kept: Iterable[Row], splits: dict[str, str], *, params: SplitParams, given: Collection[str]
) -> None:
    counts = Counter((splits[row.path], row.label) for row in kept if row.path in splits)
    groups: dict[str, set[str]] = defaultdict(set)
    for row in kept:
        groups[row.label].add(row.duplicate_group or row.path)
    for label, available in sorted(Counter(row.label for row in kept).items()):
        for split in SPLITS:
            if counts[split, label] == 0:
                distinct, remedy = len(groups[label]), _remedy(split, params, given=given)
                if distinct < min(available, len(SPLITS)):
                    images = "1 image" if distinct == 1 else f"{distinct} images"
                    remedy = f"add other images of it, since copies stay together; or {remedy}"
                    label_shown = f"{label!r}, which are copies of {images}"
                else:
                    label_shown = repr(label)
                raise DataError(
                    f"the {split} split has none of the {available:,} images of class {label_shown}: {remedy}"
                )


def _remedy(split: str, params: SplitParams, *, given: Collection[str]) -> str:
    if split == "test" and params.listed is not None:
        return f"name some in {params.listed}"
    if split in given:
        return f"put some below the folder of {split} images, or set split.test_folder to null to draw all splits"
    if split == "train" and given:
        return "name fewer test images, set split.test_folder to null, lower split.val_fraction or change split.seed"
    if split == "train":
        return "add images, lower split.val_fraction or split.test_fraction, or change split.seed"
    return f"add images, raise split.{split}_fraction, or change split.seed"
