"""sample | file | url | microsoft | kaggle | cifar10 -> one archive file, whole and verified, or one clear sentence."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from thaw.ingest.archive_reader import archive_kind, check_archive, verify_archive
from thaw.ingest.download import Remote, download_file, without_query
from thaw.ingest.folder_tar import pack_folder
from thaw.ingest.kaggle import fetch_kaggle
from thaw.params import (
    Cifar10Source,
    DataParams,
    DownloadParams,
    ExternalParams,
    FileSource,
    KaggleSource,
    MicrosoftSource,
    PinnedParams,
    SampleParams,
    SampleSource,
    UrlSource,
)
from thaw.paths import DOWNLOADS
from thaw.sample.archive import draw_archive
from thaw.utils.atomic import new_file, require_disk_space
from thaw.utils.progress import progress

COPY_BYTES = 8 << 20
NAMED_BY = "data.path in params.yaml"


def fetch_archive(destination: Path, *, data: DataParams, sample: SampleParams, partials: Path = DOWNLOADS) -> None:
    """Write the archive that `data.source` names to `destination`.

    Args:
        destination: the final name; it appears when the archive is whole.
        data: where the archive comes from.
        sample: how the sample is drawn, if it comes from there.
        partials: the folder that keeps unfinished downloads for the next try.

    Raises:
        DataError: the archive is missing, is no archive, cannot be downloaded, or is not the expected one.
    """
    match data:
        case SampleSource():
            draw_archive(destination, params=sample)
        case FileSource(archive=archive) | Cifar10Source(archive=Path() as archive):
            is_folder = archive_kind(archive, named_by=NAMED_BY) == "folder"
            pack_folder(archive, destination) if is_folder else copy_archive(archive, destination)
        case UrlSource():
            _download(Remote(url=data.url, sha256=data.sha256), destination, params=data, partials=partials)
        case MicrosoftSource(microsoft=pinned) | Cifar10Source(cifar10=pinned):
            _download(_remote(pinned), destination, params=data, partials=partials)
        case KaggleSource():
            fetch_kaggle(destination, data=data, partials=partials)


def check_source(data: DataParams) -> None:
    """Make sure, before any output of an earlier run is touched, that the archive on disk is one.

    Raises:
        DataError: it is not.
    """
    match data:
        case FileSource(archive=archive) | Cifar10Source(archive=Path() as archive):
            check_archive(archive, named_by=NAMED_BY)


def check_external(external: Mapping[str, ExternalParams]) -> None:
    """Make sure, before hours of training, that the archives of `evaluate.external` are some.

    Raises:
        DataError: one is not.
    """
    for name, params in external.items():
        check_archive(params.archive, named_by=f"evaluate.external.{name}.path in params.yaml")


def name_source(data: DataParams) -> str:
    """What the user knows the archive as: later stages read a copy, and messages should not name that."""
    match data:
        case SampleSource():
            return "sample"
        case FileSource(path=name) | KaggleSource(kaggle_dataset=name):
            return name
        case Cifar10Source(archive=Path() as archive):
            return str(archive)
        case UrlSource(url=url) | MicrosoftSource(microsoft=PinnedParams(url=url)):
            return without_query(url)
        case Cifar10Source(cifar10=pinned):
            return pinned.url


def copy_archive(archive: Path, destination: Path) -> None:
    """Copy an archive from elsewhere on this machine.

    Not a hard link: DVC makes its outputs read-only, which would reach through the link to the file outside.

    Raises:
        DataError: there is no such file, it is no archive, or there is no room for it.
    """
    check_archive(archive, named_by=NAMED_BY)
    size = archive.stat().st_size
    with new_file(destination) as temporary, progress("copy", total=size, unit="B") as bar:
        require_disk_space(destination.parent, size)
        with archive.open("rb") as source, temporary.open("wb") as target:
            while chunk := source.read(COPY_BYTES):
                target.write(chunk)
                bar.update(len(chunk))


def _remote(pinned: PinnedParams) -> Remote:
    return Remote(url=pinned.url, size=pinned.bytes, sha256=pinned.sha256)


def _download(remote: Remote, destination: Path, *, params: DownloadParams, partials: Path) -> None:
    """Download an archive; without a SHA-256 to compare with, compare the checksums inside it."""
    download_file(
        remote,
        destination,
        timeout_s=params.timeout_s,
        attempts=params.attempts,
        check=None if remote.sha256 else partial(verify_archive, name=remote.shown),
        partials=partials,
    )
