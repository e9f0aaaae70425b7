"""What a pinned archive is known to hold: where the truth is known, a look at the whole of what cleaning found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.data.layouts import fold_name
from thaw.data.manifest import Reason, Row
from thaw.errors import DataError
from thaw.utils.hashing import sha256_of

_UNDECODABLE = {Reason.EMPTY, Reason.NOT_AN_IMAGE, Reason.TRUNCATED, Reason.BROKEN}


@dataclass(frozen=True, kw_only=True)
class KnownArchive:
    """The facts of one archive, which hold whatever the parameters of cleaning are."""

    name: str

    bytes: int
    """Of the archive."""

    files: dict[str, int]
    """Class -> how many files its folders hold, without what operating systems left there."""

    undecodable: frozenset[str]
    """The ends of the paths of the files that are no whole image."""


KNOWN_ARCHIVES = {
    "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9": KnownArchive(
        name="Microsoft's Cats vs Dogs",
        bytes=824_887_076,
        files={"Cat": 12_500, "Dog": 12_500},
        undecodable=frozenset({"Cat/666.jpg", "Dog/11702.jpg"}),
    ),
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce": KnownArchive(
        name="CIFAR-10",
        bytes=170_498_071,
        files=dict.fromkeys(
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"), 6_000
        ),
        undecodable=frozenset(),
    ),
}
"""SHA-256 of an archive -> what it holds. The two files of the first are empty; Pillow decodes its other 24,998."""


def hash_if_known(archive: Path) -> str:
    """The SHA-256 of an archive that has the size of a known one; empty otherwise, without reading it."""
    known = archive.stat().st_size in {known.bytes for known in KNOWN_ARCHIVES.values()}
    return sha256_of(archive) if known else ""


def require_known_counts(rows: Sequence[Row], *, archive_sha256: str) -> None:
    """Compare what cleaning found with what is known of the archive, if anything is.

    Files are counted by the folder that they lie in, since `data.classes`, say, may give some no label.

    Args:
        rows: the manifest.
        archive_sha256: the archive's hash.

    Raises:
        DataError: a class has more or fewer files, or other files do not decode. The archive is whole, so a disk or
            a decoder is at fault.
    """
    known = KNOWN_ARCHIVES.get(archive_sha256)
    if known is None:
        return
    class_of = {fold_name(name): name for name in known.files}
    in_folders = [row for row in rows if _folder_of(row) in class_of and row.reason != Reason.SYSTEM_FILE]
    files = dict(Counter(class_of[_folder_of(row)] for row in in_folders))
    if files != known.files:
        raise _unexpected(known, expected=_count(known.files), found=_count(files))
    # Of a file without a class the manifest says just that, and not whether it decodes.
    labelled = [row for row in in_folders if row.label]
    expected = known.undecodable & {_end_of(row) for row in labelled}
    undecodable = {_end_of(row) for row in labelled if row.reason in _UNDECODABLE}
    if undecodable != expected:
        raise _unexpected(known, expected=_list(expected), found=_list(undecodable))


def _folder_of(row: Row) -> str:
    """The name of the folder that a file lies in, folded; empty at the top."""
    return fold_name(row.path.rpartition("/")[0].rpartition("/")[2])


def _end_of(row: Row) -> str:
    return "/".join(row.path.split("/")[-2:])


def _unexpected(known: KnownArchive, *, expected: str, found: str) -> DataError:
    return DataError(
        f"the archive is {known.name}, which holds {expected}, but cleaning found {found}: check the disk, "
        "run `dvc repro --force unzip`, and if that changes nothing, install the pinned requirements"
    )


def _count(files: dict[str, int]) -> str:
    return ", ".join(f"{count:,} files of class {name!r}" for name, count in sorted(files.items())) or "no class"


def _list(paths: frozenset[str] | set[str]) -> str:
    shown = ", ".join(sorted(paths)[:3]) + (", ..." if len(paths) > 3 else "")
    return f"{len(paths)} {'file' if len(paths) == 1 else 'files'} that cannot be decoded" + (
        f" ({shown})" if paths else ""
    )
