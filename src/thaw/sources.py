"""sample | file | url | microsoft | kaggle | cifar10 -> one archive file, whole and verified, or one clear sentence."""

from functools import partial
from pathlib import Path

from thaw.atomic import new_file, require_room
from thaw.containers import check_archive, verify_archive
from thaw.download import PARTIALS, Remote, download_file
from thaw.kaggle_source import fetch_kaggle
from thaw.params import DataParams, PinnedParams, SampleParams
from thaw.progress import progress
from thaw.sample import draw_archive

COPY_BYTES = 8 << 20


def fetch_archive(destination: Path, *, data: DataParams, sample: SampleParams, partials: Path = PARTIALS) -> None:
    """Write the archive that `data.source` names to `destination`.

    Args:
        destination: the final name; it appears when the archive is whole.
        data: where the archive comes from.
        sample: how the sample is drawn, if it comes from there.
        partials: the folder that keeps unfinished downloads for the next try.

    Raises:
        DataError: the archive is missing, is no archive, cannot be downloaded, or is not the expected one.
    """
    if data.source == "sample":
        draw_archive(destination, params=sample)
    elif data.source == "kaggle":
        fetch_kaggle(destination, data=data, partials=partials)
    elif data.source in ("file", "cifar10") and data.archive is not None:
        copy_archive(data.archive, destination)
    else:
        remote = _remote(data)
        download_file(
            remote,
            destination,
            timeout_s=data.timeout_s,
            attempts=data.attempts,
            check=None if remote.sha256 else partial(verify_archive, name=remote.shown),
            partials=partials,
        )


def check_source(data: DataParams) -> None:
    """Make sure, before any output of an earlier run is touched, that the archive on disk is one.

    Raises:
        DataError: it is not.
    """
    if data.source in ("file", "cifar10") and data.archive is not None:
        check_archive(data.archive)


def copy_archive(archive: Path, destination: Path) -> None:
    """Copy an archive from elsewhere on this machine.

    Not a hard link: DVC makes its outputs read-only, which would reach through the link to the file outside.

    Raises:
        DataError: there is no such file, it is no archive, or there is no room for it.
    """
    check_archive(archive)
    size = archive.stat().st_size
    with new_file(destination) as temporary, progress("copy", total=size, unit="B") as bar:
        require_room(destination.parent, size)
        with archive.open("rb") as source, temporary.open("wb") as target:
            while chunk := source.read(COPY_BYTES):
                target.write(chunk)
                bar.update(len(chunk))


def _remote(data: DataParams) -> Remote:
    if data.source == "url":
        assert data.url is not None  # DataParams has checked it
        return Remote(url=data.url, sha256=data.sha256)
    pinned: PinnedParams = data.microsoft if data.source == "microsoft" else data.cifar10
    return Remote(url=pinned.url, size=pinned.bytes, sha256=pinned.sha256)
