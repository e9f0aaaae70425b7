"""images.sha256: which files the unzipped folder holds, each with its hash; the writer beside the reader.

DVC looks at every file of a folder that it watches, twice a `dvc repro`: four seconds with 25,000 images, to find
that there is nothing to do. It watches this list instead. The folder itself is scratch: while `clean` reads it, it is
compared with the list, and unpacked again where it differs or is gone.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from thaw.errors import DataError
from thaw.ingest.folder_files import list_files
from thaw.ingest.unpack import Unpacked, unpack_archive
from thaw.params import UnzipParams
from thaw.utils.atomic import write_text


class ChangedFolderError(DataError):
    """A folder does not hold what is known of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} changes while it is read: leave it alone, and run this again")


def write_checksums(destination: Path, sha256: Mapping[str, str]) -> None:
    """Write a line `SHA-256  path` a file, as `sha256sum` does (and `sha256sum --check` reads)."""
    write_text(destination, "".join(f"{digest}  {path}\n" for path, digest in sha256.items()))


def read_checksums(path: Path) -> dict[str, str]:
    """Path -> SHA-256, as `write_checksums` wrote them; DataError if the file is missing."""
    try:
        # Not splitlines: names may hold other characters that it takes for line ends.
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: run the unzip stage") from None
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def list_known_files(files: Unpacked) -> list[str]:
    """The files of a folder, sorted.

    Raises:
        ChangedFolderError: there are others than those that are known.
        DataError: see `list_files`.
    """
    if files.sha256 is None:
        return list_files(files.folder)
    if not files.folder.is_dir() or list_files(files.folder) != list(files.sha256):
        raise ChangedFolderError(files.folder)
    return list(files.sha256)


def read_or_restore(files: Unpacked, read: Callable[[Unpacked], None], *, archive: Path, limits: UnzipParams) -> None:
    """Let `read` read a folder; where it finds another file than is known, unpack `archive` and let it begin again.

    So the folder was deleted, or is an earlier archive's, or this clone never had it: DVC brings back the list alone.
    `read` compares what it reads for itself, so that no file is read only to be compared.

    Raises:
        DataError: see `unpack_archive`, or what `read` raises; or the archive does not hold what is known.
    """
    try:
        read(files)
    except ChangedFolderError:
        if unpack_archive(archive, files.folder, limits=limits, name=files.name).sha256 != files.sha256:
            raise DataError(
                f"{archive} does not unpack to what is listed of {files.folder}: check the disk, and run "
                "`dvc repro --force unzip`"
            ) from None
    else:
        return
    read(files)
