"""Tables of labels, as people have them: a line a file, with its name and its class."""

import codecs
import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from thaw.errors import DataError
from thaw.params import LayoutParams
from thaw.utils.words import fold_case

SUFFIXES = (".csv", ".tsv")
ANNOTATIONS = "val_annotations.txt"
"""Tiny ImageNet's own table: tabs, no header, and behind file and class the four sides of a box."""
MAX_BYTES = 100_000_000
_FILE_COLUMNS = {
    "file", "filename", "filenames", "fname", "filepath", "path", "image", "imageid", "imagename", "imagefile",
    "imagepath", "img", "imgid", "imgname", "imgpath", "id", "name", "picture", "photo",
}  # fmt: skip
_LABEL_COLUMNS = {
    "label", "labels", "labelname", "class", "classname", "classlabel", "category", "categoryname", "target", "y",
    "species", "breed", "diagnosis", "dx",
}  # fmt: skip
_OTHER_COLUMNS = {
    "width", "height", "size", "bytes", "date", "time", "timestamp", "md5", "sha", "hash", "url", "link", "caption",
    "description", "title", "author", "license", "licence", "source",
}  # fmt: skip
"""What the only other column of a table may be, and is no label."""
_SPLIT_COLUMNS = {"split", "set", "subset", "partition", "dataset"}
_MIN_SHARE = 0.5
"""Of the lines of a table, at least so many must name a file before it is taken for a table of labels."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """What a table says about the files of an archive."""

    name: str
    """As messages call it."""
    labels: tuple[tuple[str, str], ...]
    """Path of a file and its label, in the order of the lines; a path may come twice."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Path of a file -> what the table says of its split."""
    unmatched: int = 0
    """Lines that name no file, or more than one."""


def check_labels(layout: LayoutParams) -> None:
    """Make sure, before an archive is downloaded, that the table that lies beside it can be read.

    Raises:
        DataError: it cannot.
    """
    if layout.table is not None:
        _read_beside(layout.table)


def _read_beside(table: Path) -> str:
    try:
        return _decode(table.read_bytes())
    except OSError as error:
        raise DataError(f"data.labels: {table} cannot be read ({error.strerror}); correct its name") from None


def read_label_tables(folder: Path, paths: Sequence[str], *, beside: Path | None = None) -> list[LabelTable]:
    """The tables of labels among the files of a folder, or the one that lies elsewhere.

    Args:
        folder: where the files lie.
        paths: all files in it, relative, with forward slashes.
        beside: a table that is given by name; no other is looked for then.

    Raises:
        DataError: the table that is given cannot be read, or does not say which file has which label.
    """
    index = index_names(paths)
    if beside is not None:
        table = parse_labels(_read_beside(beside), index, name=str(beside))
        if table is None:
            raise DataError(
                f"data.labels: {beside} needs a column with names of files that are there, such as `filename`, "
                "and one called `label`: rename its columns"
            )
        return [table]
    found = []
    for path in paths:
        # A sample submission's labels are made up.
        candidate = path.lower().endswith(SUFFIXES) and "submission" not in path.lower()
        annotations = PurePosixPath(path).name == ANNOTATIONS
        if (candidate or annotations) and (folder / path).stat().st_size <= MAX_BYTES:
            text = _decode((folder / path).read_bytes())
            if annotations:
                text = "\n".join("\t".join(line.split("\t")[:2]) for line in text.splitlines())
            table = parse_labels(text, index, name=path)
            if table is not None:
                found.append(table)
    return found


def parse_labels(text: str, index: Mapping[str, Sequence[str]], *, name: str) -> LabelTable | None:
    """Match the lines of a table with files; None if it is no table of labels.

    The column of files is the one called so of which most lines name a file; the column of labels is the one called
    so, or the only other one. A table of two columns needs no line with their names.

    Args:
        text: the whole table.
        index: see `index_names`.
        name: what messages call it.
    """
    try:
        lines = [line for line in csv.reader(text.splitlines(), delimiter=_delimiter(text)) if any(line)]
    except csv.Error:
        return None
    if not lines or len(lines[0]) < 2:
        return None
    folder = PurePosixPath(name).stem
    has_header = not any(_resolve(cell, index, folder=folder) for cell in lines[0])
    header = [re.sub("[^a-z]", "", cell.lower()) for cell in lines[0]] if has_header else []
    body = [line for line in lines[has_header:] if len(line) >= 2]
    columns = _choose_columns(header, width=len(lines[0]), body=body, index=index, folder=folder)
    if columns is None:
        return None
    file_column, label_column, split_column = columns
    labels, splits, unmatched = [], {}, 0
    for line in body:
        label = line[label_column].strip() if label_column < len(line) else ""
        path = _resolve(line[file_column], index, folder=folder) if file_column < len(line) else ""
        if not path:
            unmatched += 1
        elif label:
            labels.append((path, label))
            if split_column is not None and split_column < len(line):
                splits[path] = line[split_column]
    if len(labels) < _MIN_SHARE * len(body) or not labels:
        return None
    return LabelTable(name=name, labels=tuple(labels), splits=splits, unmatched=unmatched)


def _choose_columns(
    header: Sequence[str], *, width: int, body: Sequence[Sequence[str]], index: Mapping[str, Sequence[str]], folder: str
) -> tuple[int, int, int | None] | None:
    """Which columns hold files, labels and, if any does, splits."""
    candidates = [i for i, word in enumerate(header) if word in _FILE_COLUMNS] or list(range(width))
    known = {
        i: sum(bool(_resolve(line[i], index, folder=folder)) for line in body if i < len(line)) for i in candidates
    }
    file_column = max(candidates, key=lambda i: known[i])
    if not known[file_column]:
        return None
    split_column = next((i for i, word in enumerate(header) if word in _SPLIT_COLUMNS), None)
    others = [i for i in range(width) if i not in (file_column, split_column)]
    named = [i for i in others if header and header[i] in _LABEL_COLUMNS]
    if not named and (len(others) != 1 or (header and header[others[0]] in _OTHER_COLUMNS)):
        return None
    label_column = (named or others)[0]
    distinct = {line[label_column] for line in body if label_column < len(line)}
    if not named and len(distinct) > max(2, len(body) / 2):
        return None  # a caption or a checksum, say: nearly each line has its own
    return file_column, label_column, split_column


def index_names(paths: Iterable[str]) -> dict[str, list[str]]:
    """Each way to name a file -> the paths that it may mean: the path or an end of it, with or without the suffix."""
    index: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        parts = fold_case(path).split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            index[end].append(path)
            stem = end.rpartition(".")[0]
            if stem and not stem.endswith("/"):
                index[stem].append(path)
    return dict(index)


def _resolve(cell: str, index: Mapping[str, Sequence[str]], *, folder: str) -> str:
    """The one path that a cell means; empty if there is none, or more than one.

    Of several, the one that lies in a folder of the table's name: train.csv means train/1.jpg, not test/1.jpg.
    """
    wanted = fold_case(cell.strip().replace("\\", "/").removeprefix("./"))
    found: Sequence[str] = index.get(wanted, ())
    while not found and "/" in wanted:  # the table's paths may begin further up than the archive's
        wanted = wanted.partition("/")[2]
        found = index.get(wanted, ())
    if len(found) > 1:
        exact = [path for path in found if fold_case(path) == wanted]
        found = exact or [path for path in found if folder.casefold() in fold_case(path).split("/")]
    return found[0] if len(found) == 1 else ""


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _decode(data: bytes) -> str:
    # Excel's "Unicode text" is UTF-16.
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
