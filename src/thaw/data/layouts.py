"""Paths of files -> the class of each, or why it has none: which folders are classes. Pure: no file is opened here.

What is understood, in the order in which it is looked for:

- `split_folders`: train/, val/ and test/ in any spelling, with class folders below train; what lies in the others
  without a class folder is unlabelled;
- `folders`: one folder a class, at the first depth where folders differ; what lies deeper is part of the class;
- `csv`: tables with a column of file names and a column of labels;
- `prefix`: the label in front of a number in the name of each file, as in cat.123.jpg.

Where the paths can be read in two ways, nothing is guessed: `read_layout` raises, and says which knob decides.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath

from thaw.data.labels_csv import LabelTable
from thaw.data.manifest import Reason, list_counts
from thaw.errors import DataError
from thaw.params import LayoutKind
from thaw.utils.words import enumerate_words, fold_case

Folder = tuple[str, ...]
"""A folder as the names on the way to it; () is the top."""

_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "icon\u240d"}
_SYSTEM_FOLDERS = {
    "__macosx", "@eadir", "@tmp", "#recycle", "$recycle.bin", "system volume information", "lost+found",
    "thumbnails", "__pycache__",
}  # fmt: skip
_SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_CONTAINER_WORDS = {
    "image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos", "jpg", "jpeg", "png",
    "data", "dataset", "file", "files", "raw", "original", "originals", "batch", "part", "set", "subset", "fold",
    "chunk", "shard", "group", "session", "folder", "dir", "split",
}  # fmt: skip
"""Words that say that a folder holds images, and nothing about what they show."""
_IMAGE_FOLDERS = {"image", "images", "img", "imgs"}
_ANNOTATION_FOLDERS = {
    "annotation", "annotations", "gt", "groundtruth", "ground_truth", "mask", "masks", "segmentation", "segmentations",
    "trimap", "trimaps",
}  # fmt: skip
"""Beside one of _IMAGE_FOLDERS, these hold what was drawn over its images."""
_CAMERA_WORDS = {"dsc", "dscn", "dscf", "pxl", "frame", "scan", "screenshot", "untitled", "p", "vid", "wa"}
_NUMBERED = re.compile(r"(?P<label>.*[^\W\d_].*?)(?P<mark>[\s._-]*)\(?\d+\)?")
_PREFIX_SHARE = 0.9
"""At least so many of the images must be called LABEL.NUMBER before that is taken for their label."""
_MIN_IMAGES_PER_PREFIX = 2
_NAMES_SHOWN = 20
"""So many names of folders or labels an error lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What its path says about a file."""

    label: str = ""
    """The class; empty if there is none, or nobody knows it."""
    label_source: str = ""
    """`folder`, `file names`, or the table that says so; empty without a label."""
    split: str = ""
    """train, val or test if that is given; empty if it is to be drawn."""
    reason: str = ""
    """A Reason where the path alone decides that the file is dropped."""


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One way to read the paths."""

    kind: LayoutKind
    label_of: Callable[[str], tuple[str, str]]
    """Path -> the label, as it is spelt there, and its source; two empty strings for none."""
    split_folders: Mapping[Folder, str] = field(default_factory=dict)
    split_of_table: Mapping[str, str] = field(default_factory=dict)
    conflicts: Collection[str] = ()
    """Paths to which tables give more than one label."""

    def labels(self, images: Iterable[str]) -> dict[str, str]:
        """Image -> label, of those that have one."""
        return {path: label for path in images if (label := self.label_of(path)[0])}

    def classes(self, images: Iterable[str]) -> list[str]:
        return sorted(set(_spellings(self.labels(images)).values()))

    def split(self, path: str) -> str:
        found = (self.split_folders[folder] for folder in _folders_of(path) if folder in self.split_folders)
        return self.split_of_table.get(path) or next(found, "")


def read_layout(
    paths: Sequence[str],
    *,
    images: Collection[str],
    kind: LayoutKind = "auto",
    classes: Sequence[str] | None = None,
    tables: Sequence[LabelTable] = (),
    name: str = "the archive",
    has_knobs: bool = True,
) -> dict[str, Place]:
    """Say of each path which class and which split it belongs to, or why it belongs to none.

    Args:
        paths: all files, relative, with forward slashes.
        images: those of them that decode. Only they make a folder a class.
        kind: which of the ways to read paths is right; `auto` finds out.
        classes: the names of the classes; what lies in no folder (has no label) of such a name is left aside, and each
            name must be that of an image.
        tables: labels from tables (see `thaw.data.labels_csv`).
        name: what messages call the whole.
        has_knobs: whether `data.layout` and its like are read for it, so that messages may name them.

    Raises:
        DataError: the paths can be read in two ways; or `kind` is asked for, or a class, and is not what is there.
    """
    wanted = None if classes is None else {fold_name(label): label for label in classes}
    system = {path for path in paths if is_system_file(path)}
    sound = sorted(path for path in images if path not in system)
    # Who names a layout or a class by such a word means it.
    annotations = _find_annotations(sound, but=wanted or ()) if kind != "folders" else set()
    sound = [path for path in sound if path not in annotations]
    reading = _choose_reading(sound, kind=kind, wanted=wanted, tables=tables, name=name, has_knobs=has_knobs)
    if wanted is not None and sound:
        _require_wanted(reading, sound, wanted=wanted, name=name)
    spelling = _spellings(reading.labels(sound))
    places = {}
    for path in paths:
        label, source = reading.label_of(path)
        label = spelling.get(fold_name(label), "") if wanted is None else wanted.get(fold_name(label), "")
        split = reading.split(path)
        if path in system:
            reason: str = Reason.SYSTEM_FILE
        elif path in annotations:
            label, reason = "", Reason.NO_CLASS
        elif path in reading.conflicts:
            reason = Reason.LABEL_CONFLICT
        elif label:
            reason = ""
        elif reading.kind in ("csv", "prefix"):
            reason = Reason.NO_LABEL if path in images else ""  # what is no image says so itself
        else:
            reason = Reason.NO_LABEL if path in images and split else Reason.NO_CLASS
        places[path] = Place(label=label, label_source=source if label else "", split=split, reason=reason)
    return places


def is_system_file(path: str) -> bool:
    """Whether an operating system, an editor or a storage box left a file there: Thumbs.db, __MACOSX/, .git/, ..."""
    *folders, name = path.casefold().split("/")
    hidden = any(part.startswith(".") and part != ".." for part in (*folders, name))
    return hidden or name in _SYSTEM_FILES or not _SYSTEM_FOLDERS.isdisjoint(folders)


@cache
def fold_name(name: str) -> str:
    """What two spellings of one name have in common: case, Unicode form and outer spaces do not count."""
    return " ".join(fold_case(name).split())


def split_word(name: str) -> tuple[str, Folder]:
    """`train`, `val` or `test` if a folder (or a table) is called so, and what else its name says; empty if it is not.

    Test, testing, test1, test_set, seg_test: all are `test`, the last one with the rest ("seg",).
    """
    words = re.findall(r"[^\W\d_]+", fold_name(name))
    words = [re.sub("(set|data|images|imgs)$", "", word) or word for word in words]
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    rest = tuple(word for word in words if word not in _SPLIT_WORDS and word not in _CONTAINER_WORDS)
    return (found.pop(), rest) if len(found) == 1 else ("", rest)


def _find_annotations(images: Sequence[str], *, but: Collection[str]) -> set[str]:
    """Those of the images that show masks and the like, and would else be a class beside that of the images."""
    words = _ANNOTATION_FOLDERS.difference(but)
    beside = {folder[:-1] for path in images for folder in _folders_of(path) if fold_name(folder[-1]) in _IMAGE_FOLDERS}
    return {
        path
        for path in images
        for folder in _folders_of(path)
        if folder[:-1] in beside and fold_name(folder[-1]) in words
    }


# Which reading


def _choose_reading(
    images: Sequence[str],
    *,
    kind: LayoutKind,
    wanted: Mapping[str, str] | None,
    tables: Sequence[LabelTable],
    name: str,
    has_knobs: bool,
) -> _Reading:
    by_table = _read_tables(images, tables)
    match kind:
        case "csv":
            return _require(by_table, images, f"{name} holds no table of labels: name one in data.labels")
        case "prefix":
            by_prefix = _read_prefixes(images, strict=False)
            return _require(by_prefix, images, f"{name} has no file names like cat.123.jpg: set data.layout to auto")
        case "split_folders":
            split = _read_split_folders(images, wanted=wanted, alone=True)
            return _require(split, images, f"{name} has no folders train and test: set data.layout to auto")
        case "folders":
            return _read_named(images, wanted) if wanted else _read_folders(images)
    found = [_read_split_folders(images, wanted=wanted, alone=True) or _read_named(images, wanted)] if wanted else []
    found = [reading for reading in found or _folder_readings(images) if reading.labels(images)]
    sure = [reading for reading in found if len(reading.classes(images)) > 1]
    if by_table is not None and sure and all(_agree(one, by_table, images) for one in sure):
        sure = [_fill_in(one, by_table, images) for one in sure]
    elif by_table is not None:
        sure.append(by_table)
    if not sure and (by_prefix := _read_prefixes(images, strict=True)) is not None:
        sure.append(by_prefix)
    if len(sure) > 1:
        raise DataError(_tell_apart(sure[0], sure[1], images, name=name, has_knobs=has_knobs))
    return (sure or found or [_Reading(kind="folders", label_of=lambda _: ("", ""))])[0]


def _require_wanted(reading: _Reading, images: Sequence[str], *, wanted: Mapping[str, str], name: str) -> None:
    """Raise DataError if a name that is asked for is that of no image; it says which names there are."""
    named = set(_spellings(reading.labels(images)))
    missing = [repr(label) for folded, label in wanted.items() if folded not in named]
    if not missing:
        return
    if reading.kind in ("csv", "prefix"):
        what, there = "its labels", reading.classes(images)
    else:
        what, there = "its folders", sorted({folder[-1] for path in images for folder in _folders_of(path)})
    more = f" and {len(there) - _NAMES_SHOWN:,} others" if len(there) > _NAMES_SHOWN else ""
    found = f"{what} are {', '.join(map(repr, there[:_NAMES_SHOWN]))}{more}" if there else "it has no folders"
    raise DataError(
        f"data.classes names {enumerate_words(missing)}, of which {name} has no sound image ({found}): correct it, "
        "or leave it out"
    )


def _require(reading: _Reading | None, images: Sequence[str], complaint: str) -> _Reading:
    if reading is None or not reading.labels(images):
        raise DataError(complaint)
    return reading


def _agree(one: _Reading, other: _Reading, images: Sequence[str]) -> bool:
    """Whether two readings divide the images that both know alike, whatever they call the classes."""
    left, right = one.labels(images), other.labels(images)
    pairs = {(fold_name(left[path]), fold_name(right[path])) for path in left.keys() & right.keys()}
    return len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})


def _fill_in(reading: _Reading, table: _Reading, images: Sequence[str]) -> _Reading:
    """What folders say, and of images in none of them what a table of the same classes says: Tiny ImageNet's val/."""
    if not set(map(fold_name, table.classes(images))) <= set(map(fold_name, reading.classes(images))):
        return reading
    return replace(
        reading, label_of=lambda path: label if (label := reading.label_of(path))[0] else table.label_of(path)
    )


def _tell_apart(first: _Reading, second: _Reading, images: Sequence[str], *, name: str, has_knobs: bool) -> str:
    """Both readings, and how to choose each."""
    one, other = (_show_classes(reading.labels(images)) for reading in (first, second))
    both = f"{name} can be read as {one} or as {other}"
    if not has_knobs:
        return f"{both}: leave one of the two out of it, so that it has one folder of images a class"
    if first.kind == second.kind:
        # Two depths of folders: `folders` stands for the upper one.
        names = ", ".join(_quote(label) for label in second.classes(images))
        knobs = ("data.layout: folders", f"data.classes: [{names}]")
    else:
        knobs = (f"data.layout: {first.kind}", f"data.layout: {second.kind}")
    return f"{both}: set {knobs[0]} for the former, {knobs[1]} for the latter"


def _show_classes(labels: Mapping[str, str]) -> str:
    """`2 classes (Cat 6,249, Dog 6,249)`."""
    spelling = _spellings(labels)
    counts = Counter(spelling[fold_name(label)] for label in labels.values())
    return f"{len(counts):,} classes ({list_counts(counts)})"


def _quote(label: str) -> str:
    return label if re.fullmatch(r"[^\W\d][\w -]*", label) else f"'{label}'"


def _spellings(labels: Mapping[str, str]) -> dict[str, str]:
    """Folded name of a class -> the spelling that most of its images have, without outer spaces, in NFC."""
    counts = Counter(" ".join(unicodedata.normalize("NFC", label).split()) for label in labels.values())
    spelling: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        spelling.setdefault(fold_name(label), label)
    return spelling


# Folders


def _folder_readings(images: Sequence[str], *, splits: bool = True) -> list[_Reading]:
    """The one way to read the folders, or the two that are possible."""
    if splits and (split := _read_split_folders(images, wanted=None, alone=False)) is not None:
        node = _descend(images, ())
        others = [name for name in _group_by_folder(images, node) if (*node, name) not in split.split_folders]
        return [split, *(_folder_readings(images, splits=False) if others else [])]
    readings = []
    for folders in _find_class_folders(images, ()):
        inner = _splits_inside(images, folders) if splits else {}
        readings.append(_Reading(kind="folders", label_of=_label_by_folder(folders), split_folders=inner))
    return readings if splits else readings[:1]


def _read_folders(images: Sequence[str]) -> _Reading:
    """The folders as classes since somebody has said so: also those whose names say nothing."""
    found = _folder_readings(images, splits=False)[0]
    if found.labels(images):
        return found
    node = _descend(images, ())
    folders = {(*node, name): name for name in _group_by_folder(images, node)}
    return _Reading(kind="folders", label_of=_label_by_folder(folders))


def _read_split_folders(images: Sequence[str], *, wanted: Mapping[str, str] | None, alone: bool) -> _Reading | None:
    """Folders train, val and test; None where there are none.

    `alone`: also where they are not all that holds images, since somebody has said so.
    """
    node = _descend(images, ())
    parts = {(*node, name): split for name, split in _find_splits(_group_by_folder(images, node), alone=alone).items()}
    if not parts:
        return None
    train = [part for part, split in parts.items() if split == "train"]
    classes: dict[Folder, str] = {}
    for part in train:
        found = _named_folders(_below(images, part), wanted, part) if wanted else _find_class_folders(images, part)[-1]
        if wanted or len(found) > 1:
            classes |= found
    known = {fold_name(label) for label in classes.values()}
    for part in parts.keys() - set(train):
        inside = _below(images, part)
        named = _named_folders(inside, known, part)
        if named and not wanted:
            # One that train lacks is a class all the same: what to do about it is for the split to say.
            unnamed = [path for path in inside if not any(folder in named for folder in _folders_of(path))]
            first = {_split_path(path)[: len(part) + 1] for path in unnamed}
            named |= {folder: folder[-1] for folder in first - set(map(_split_path, unnamed))}
        classes |= named
    return _Reading(kind="split_folders", label_of=_label_by_folder(classes), split_folders=parts)


def _find_splits(names: Iterable[str], *, alone: bool) -> dict[str, str]:
    """Those of the names of sibling folders that are a data set's splits: train, and at least one other.

    One of them by itself may well be a class (car, bus, train).
    """
    by_rest: dict[Folder, dict[str, str]] = defaultdict(dict)
    for name in names:
        split, rest = split_word(name)
        if split:
            by_rest[rest][name] = split
    for _, found in sorted(by_rest.items()):
        if "train" in found.values() and (alone or len(set(found.values())) > 1):
            return found
    return {}


def _splits_inside(images: Sequence[str], classes: Mapping[Folder, str]) -> dict[Folder, str]:
    """CLASS/train/ and CLASS/test/: the splits below each class folder, if all is divided so."""
    found: dict[Folder, str] = {}
    for folder in classes:
        names = _group_by_folder(images, folder)
        splits = _find_splits(names, alone=False)
        if not splits or splits.keys() != names.keys() or _count_direct(images, folder):
            return {}
        found |= {(*folder, name): split for name, split in splits.items()}
    return found


def _find_class_folders(images: Sequence[str], top: Folder) -> list[dict[Folder, str]]:
    """The class folders below `top`, each with its label; two answers where two depths are possible, upper first."""
    node = _descend(images, top)
    below = _group_by_folder(images, node)
    outer = {(*node, name): name for name in below}
    if not outer:
        return [{node: node[-1]} if node else {}]
    inner = {folder: _folders_inside(below[name], folder) for folder, name in outer.items()}
    more = _more_of_the_same(outer, inner)
    if more:
        # extra/Cat beside Cat is more of class Cat.
        return [{folder: name for folder, name in outer.items() if folder not in more} | _join(more.values())]
    branching = {folder: children for folder, children in inner.items() if len(children) > 1}
    if not branching:
        # Folders that say nothing about what they show are no classes: images_1, images_2.
        return [{} if all(map(_is_container, outer.values())) else outer]
    if any(_count_direct(below[name], folder) for folder, name in outer.items()):
        # A folder train or images that has folders itself, beside one that has none, may be a class or hold them.
        odd = [folder for folder in branching if _is_container(outer[folder]) or split_word(outer[folder])[0]]
        return [outer, _join(branching[folder] for folder in odd)] if odd else [outer]
    deeper = _join(inner.values())
    if all(split_word(name)[0] for name in deeper.values()):
        return [outer]
    return _choose_depth(outer, deeper, inner)


def _more_of_the_same(
    outer: Mapping[Folder, str], inner: Mapping[Folder, Mapping[Folder, str]]
) -> dict[Folder, Mapping[Folder, str]]:
    """Those of the outer folders, but not all, in which all folders are called as others of the outer ones."""
    names = _labels(outer)
    more = {
        folder: children
        for folder, children in inner.items()
        if children and _labels(children) <= names - {fold_name(outer[folder])}
    }
    return more if len(more) < len(outer) else {}


def _choose_depth(
    outer: dict[Folder, str], deeper: dict[Folder, str], inner: Mapping[Folder, Mapping[Folder, str]]
) -> list[dict[Folder, str]]:
    """Cat/batch1 or batch1/Cat: the names tell, or nothing does."""
    counts = Counter(label for children in inner.values() for label in _labels(children))
    shared = any(count > 1 for count in counts.values())
    outer_holds = (
        all(map(_is_container, outer.values()))
        or any(split_word(name)[0] for name in outer.values())
        or (shared and _is_series(outer.values()))
    )
    deeper_holds = all(map(_is_container, deeper.values())) or _is_series(deeper.values())
    if outer_holds != deeper_holds:
        return [deeper] if outer_holds else [outer]
    return [outer, deeper]


def _descend(images: Sequence[str], top: Folder) -> Folder:
    """The first folder, from `top` down, with more than one folder of images in it, or with none."""
    while True:
        below = {name: len(inside) for name, inside in _group_by_folder(images, top).items()}
        if len(below) != 1 or _count_direct(images, top) >= sum(below.values()):
            return top
        top = (*top, *below)


def _folders_inside(images: Sequence[str], folder: Folder) -> dict[Folder, str]:
    """The folders in `folder`, or in the first one below it that has more than one; none if it has images itself.

    All `images` lie in `folder`.
    """
    if _count_direct(images, folder):
        return {}
    node = _descend(images, folder)
    return {(*node, name): name for name in _group_by_folder(images, node)} or {node: node[-1]}


def _join(parts: Iterable[Mapping[Folder, str]]) -> dict[Folder, str]:
    return {folder: name for part in parts for folder, name in part.items()}


def _labels(folders: Mapping[Folder, str]) -> set[str]:
    return {fold_name(name) for name in folders.values()}


def _is_container(name: str) -> bool:
    words = re.findall(r"[^\W\d_]+", fold_name(name))
    return bool(words) and all(word in _CONTAINER_WORDS for word in words)


def _is_series(names: Collection[str]) -> bool:
    """Whether names are the same but for their numbers: batch1, batch2."""
    return all(re.search(r"\d", name) for name in names) and len({re.sub(r"\d+", "", name) for name in names}) == 1


def _read_named(images: Sequence[str], wanted: Mapping[str, str]) -> _Reading:
    """The folders of given names, at whatever depth; the uppermost counts."""
    return _Reading(kind="folders", label_of=_label_by_folder(_named_folders(images, wanted, ())))


def _named_folders(images: Sequence[str], names: Collection[str], top: Folder) -> dict[Folder, str]:
    """The uppermost folders below `top` whose folded name is among `names`."""
    found = {}
    for path in images:
        for folder in _folders_of(path):
            if len(folder) > len(top) and fold_name(folder[-1]) in names:
                found[folder] = folder[-1]
                break
    return found


def _label_by_folder(folders: Mapping[Folder, str]) -> Callable[[str], tuple[str, str]]:
    def label_of(path: str) -> tuple[str, str]:
        return next(((folders[folder], "folder") for folder in _folders_of(path) if folder in folders), ("", ""))

    return label_of


def _folders_of(path: str) -> Iterator[Folder]:
    """The folders that a path lies in, the uppermost first."""
    parts = _split_path(path)
    return (parts[:depth] for depth in range(1, len(parts)))


def _split_path(path: str) -> Folder:
    return tuple(path.split("/"))


def _below(images: Sequence[str], folder: Folder) -> list[str]:
    start = "".join(f"{name}/" for name in folder)
    return [path for path in images if path.startswith(start)]


def _group_by_folder(images: Sequence[str], folder: Folder) -> dict[str, list[str]]:
    """Each of the folders in `folder` -> the images in it, or deeper."""
    depth = len(folder)
    groups: dict[str, list[str]] = defaultdict(list)
    for path in _below(images, folder):
        parts = path.split("/", depth + 1)
        if len(parts) > depth + 1:
            groups[parts[depth]].append(path)
    return dict(groups)


def _count_direct(images: Sequence[str], folder: Folder) -> int:
    """How many images lie in `folder` itself."""
    return sum(path.count("/") == len(folder) for path in _below(images, folder))


# Tables and file names


def _read_tables(images: Sequence[str], tables: Sequence[LabelTable]) -> _Reading | None:
    """What tables say; None if they know fewer than two classes.

    The same image with two labels has none. Tables called train.csv and test.csv, or a column `split`, give the split.
    """
    labels: dict[str, tuple[str, str]] = {}
    conflicts = set()
    splits: dict[str, str] = {}
    of_tables = _find_splits([PurePosixPath(table.name).stem for table in tables], alone=False)
    for table in tables:
        for path, label in table.labels:
            if path in labels and fold_name(labels[path][0]) != fold_name(label):
                conflicts.add(path)
            labels.setdefault(path, (label, table.name))
            split = split_word(table.splits.get(path, ""))[0] or of_tables.get(PurePosixPath(table.name).stem, "")
            if split:
                splits[path] = split
    node = _descend(images, ())
    parts = _find_splits(_group_by_folder(images, node), alone=False)
    reading = _Reading(
        kind="csv",
        label_of=lambda path: labels.get(path, ("", "")),
        split_folders={(*node, name): split for name, split in parts.items()},
        split_of_table=splits,
        conflicts=conflicts,
    )
    return reading if len(reading.classes(images)) > 1 else None


def _read_prefixes(images: Sequence[str], *, strict: bool) -> _Reading | None:
    """Labels in front of numbers, as in cat.123.jpg; None where names are not like that.

    `strict`: nobody has said that they are.
    """
    node = _descend(images, ())
    parts = {
        (*node, name): split for name, split in _find_splits(_group_by_folder(images, node), alone=not strict).items()
    }
    train = [path for path in images if not any(parts.get(folder, "train") != "train" for folder in _folders_of(path))]
    labels = Counter(fold_name(label) for path in train if (label := _prefix_of(path, strict=strict)))
    known = {label for label, count in labels.items() if not strict or count >= _MIN_IMAGES_PER_PREFIX}
    if strict and sum(labels[label] for label in known) < _PREFIX_SHARE * len(train):
        return None

    def label_of(path: str) -> tuple[str, str]:
        label = _prefix_of(path, strict=strict)
        return (label, "file names") if fold_name(label) in known else ("", "")

    return _Reading(kind="prefix", label_of=label_of, split_folders=parts) if len(known) > 1 else None


def _prefix_of(path: str, *, strict: bool) -> str:
    found = _NUMBERED.fullmatch(PurePosixPath(path).stem)
    if found is None or (strict and not found["mark"]):
        return ""
    words = re.findall(r"[^\W\d_]+", fold_name(found["label"]))
    says_nothing = all(word in _CONTAINER_WORDS | _CAMERA_WORDS | set(_SPLIT_WORDS) for word in words)
    return "" if says_nothing else found["label"]
