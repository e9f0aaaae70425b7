"""manifest.csv -> splits.csv: which images are for training, validation and test."""

from collections import Counter, defaultdict
from collections.abc import Iterable
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

    With `params.test_list`, or a folder of test images (`params.test_folder`), the test split is given, and holds
    exactly the kept images that are named: results compare with those of others. Their duplicates elsewhere are in
    no split at all, since they would leak the test into the training. The rest is train and val,
    `params.val_fraction` of it val.

    Raises:
        DataError: the test list or folder names what is not there, or a split lacks a class.
    """
    rows = read_manifest(manifest)
    kept = [row for row in rows if row.kept]
    given = _find_given_test(rows, manifest, params=params)
    splits = _assign(kept, given, params=params)
    _require_every_class(kept, splits, params=params, given=given is not None)
    groups = _group(kept).values()
    content = {row.path: _hash_content(members) for members in groups for row in members}
    table = [(row.path, row.label, splits[row.path], content[row.path]) for row in kept if row.path in splits]
    write_splits(destination, table)


def lie_below(paths: Iterable[str], folder: str | None) -> set[str]:
    """Those of `paths` that lie in a class folder below a folder of that name; the rule of `split.test_folder`."""
    # The folder that directly holds an image is its class.
    return {path for path in paths if folder in PurePosixPath(path).parts[:-2]}


def draw_split(pixels_sha256: str, *, seed: int, val_fraction: float, test_fraction: float) -> str:
    """The split of an image: a hash of its content and the seed, read as a number in [0, 1), against thresholds."""
    uniform = uniform_of(f"{seed}:{pixels_sha256}")
    if uniform < test_fraction:
        return "test"
    return "val" if uniform < test_fraction + val_fraction else "train"


def _assign(kept: list[Row], given: set[str] | None, *, params: SplitParams) -> dict[str, str]:
    """The split of each path; images that are left out are missing."""
    splits = {}
    for members in _group(kept).values():
        if given is not None and any(row.path in given for row in members):
            splits.update({row.path: "test" for row in members if row.path in given})
            continue
        content = _hash_content(members)
        if given is not None:
            # Another draw than `draw_split`'s: of the rest of a test split that was drawn by that one, none is left
            # below its thresholds.
            split = "val" if uniform_of(f"{params.seed}:val:{content}") < params.val_fraction else "train"
        else:
            split = draw_split(
                content, seed=params.seed, val_fraction=params.val_fraction, test_fraction=params.test_fraction
            )
        splits.update({row.path: split for row in members})
    return splits


def _group(kept: Iterable[Row]) -> dict[str, list[Row]]:
    """Images that are duplicates of each other, together."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in kept:
        groups[row.duplicate_group or row.path].append(row)
    return groups


def _hash_content(members: Iterable[Row]) -> str:
    """What stands for a group of duplicates, whatever its files are called: the smallest hash of their pixels."""
    return min(row.pixels_sha256 for row in members)


def _find_given_test(rows: list[Row], manifest: Path, *, params: SplitParams) -> set[str] | None:
    """The paths that have to be the test split; None if it is to be drawn."""
    if params.listed is not None:
        return _find_listed(params.listed, rows, manifest)
    if params.folder is None:
        return None
    kept = [row.path for row in rows if row.kept]
    below = lie_below(kept, params.folder)
    # An archive that has nothing else is called so, and is not divided.
    if params.test_folder == TEST_FOLDER_IF_ANY and len(below) in (0, len(kept)):
        return None
    if not below:
        raise DataError(
            f"split.test_folder is {params.test_folder!r}, but no kept image in {manifest} lies in a class folder "
            "below a folder of that name: correct it, or set it to null to draw the test split"
        )
    return below


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


def _require_every_class(kept: Iterable[Row], splits: dict[str, str], *, params: SplitParams, given: bool) -> None:
    counts = Counter((splits[row.path], row.label) for row in kept if row.path in splits)
    for label, available in sorted(Counter(row.label for row in kept).items()):
        for split in SPLITS:
            if counts[split, label] == 0:
                raise DataError(
                    f"the {split} split has none of the {available:,} images of class {label!r}: "
                    f"{_remedy(split, params, given=given)}"
                )


def _remedy(split: str, params: SplitParams, *, given: bool) -> str:
    if split == "test" and params.listed is not None:
        return f"name some in {params.listed}"
    if split == "test" and given:
        return "put some below the folder of test images, or set split.test_folder to null"
    if split == "train" and given:
        return "name fewer test images, set split.test_folder to null, lower split.val_fraction or change split.seed"
    if split == "train":
        return "add images, lower split.val_fraction or split.test_fraction, or change split.seed"
    return f"add images, raise split.{split}_fraction, or change split.seed"
