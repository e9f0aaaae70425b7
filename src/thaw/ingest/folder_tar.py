"""A plain folder -> one tar, which all later stages read as they read any archive."""

import tarfile
from pathlib import Path

from thaw.errors import DataError
from thaw.ingest.archive_reader import check_archive, walk_folder
from thaw.utils.atomic import PERMISSIONS, new_file, require_disk_space
from thaw.utils.progress import progress


def pack_folder(folder: Path, destination: Path) -> None:
    """Write all that lies in a folder into a tar without compression: the same files, the same bytes.

    What is no file is an entry without content, so that the list of what was refused names it.

    Raises:
        DataError: the folder cannot be read, holds no file, or holds `destination` itself; or there is no room.
    """
    if destination.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder} holds this project itself; name the folder of the images alone in data.path")
    check_archive(folder, named_by="data.path in params.yaml")
    files = list(walk_folder(folder))
    size = sum(path.stat().st_size for path, kind in files if kind == "file")
    with (
        new_file(destination) as temporary,
        progress("pack", total=len(files), unit="files") as bar,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as package,
    ):
        require_disk_space(destination.parent, size)
        for path, kind in files:
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            info.mode = PERMISSIONS
            if kind == "file":
                _add_file(package, path, info)
            else:
                info.type = tarfile.SYMTYPE if path.is_symlink() else tarfile.FIFOTYPE
                package.addfile(info)
            bar.update()


def _add_file(package: tarfile.TarFile, path: Path, info: tarfile.TarInfo) -> None:
    try:
        with path.open("rb") as file:
            info.size = path.stat().st_size
            package.addfile(info, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); correct its permissions") from None
