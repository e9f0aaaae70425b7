"""Another archive of labelled images -> images to test on: its classes matched, copies of training images left out."""

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.data.clean import judge_files, map_in_threads, stored_images
from thaw.data.duplicates import THUMBNAIL_SIDE_PX, find_groups, fingerprint
from thaw.data.image_zip import ImageZip, write_images
from thaw.data.manifest import Reason, Row, read_manifest, write_manifest
from thaw.data.splits_csv import SplitTable
from thaw.errors import DataError
from thaw.ingest.unpack import unpack_archive
from thaw.params import AS_FOUND, CleanParams, UnzipParams
from thaw.utils.atomic import new_file
from thaw.utils.progress import progress
from thaw.utils.words import enumerate_words, fold_case


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """The images that models were trained or validated on, for what is a copy of one."""

    pixels_sha256: tuple[str, ...]
    """Of N images."""

    hashes: NDArray[np.uint64]
    """Shape (N,), from `fingerprint`."""

    thumbnails: NDArray[np.uint8]
    """Shape (N, 16, 16), likewise."""


def match_classes(
    found: Iterable[str], *, known: Sequence[str], mapping: Mapping[str, str], archive: Path, named_by: str
) -> dict[str, str]:
    """Class of an archive -> the class of the models that it is.

    Names are equal if they differ only in upper and lower case, in spaces around them, or in their Unicode form; where
    the models have two such classes, only the very name counts.

    Args:
        found: the classes of the archive.
        known: the classes of the models.
        mapping: a class of the archive -> the class of the models that it is, where the names differ by more.
        archive: for messages.
        named_by: the parameter or option that holds `mapping`, for messages.

    Raises:
        DataError: a class is none of the models', or `mapping` names one that the archive does not have.
    """
    labels = sorted(set(found))
    folded = {_fold(name): name for name in labels}
    for name in mapping:
        if _fold(name) not in folded:
            raise DataError(
                f"{named_by} names the class {name!r}, which {archive} does not have ({', '.join(labels)}): correct it"
            )
    meant = {_fold(name): target for name, target in mapping.items()}
    classes = {}
    for label in labels:
        target = meant.get(_fold(label), label)
        near = [name for name in known if _fold(name) == _fold(target)]
        match = target if target in known else near[0] if len(near) == 1 else None
        if match is None:
            called = repr(label) if target == label else f"{label!r}, by {named_by} {target!r}"
            raise DataError(
                f"{archive} has the class {called}, which is none of the models' classes ({', '.join(known)}): "
                f"say in {named_by} which of them it is"
            )
        classes[label] = match
    return classes


def _fold(name: str) -> str:
    return fold_case(name.strip())


def fingerprint_training_images(manifest: Path, images: Path, *, splits: SplitTable) -> TrainingImages:
    """What `clean_external` compares with: all images of train and val, as images.zip holds them.

    Raises:
        DataError: a file that a stage wrote is missing, or does not fit the others.
    """
    trained_on = [path for path, split in zip(splits.paths, splits.splits, strict=True) if split != "test"]
    sha256_of = {row.path: row.pixels_sha256 for row in read_manifest(manifest)}
    missing = [path for path in trained_on if path not in sha256_of]
    if missing:
        raise DataError(f"{manifest} has no image {missing[0]!r}, but data/splits.csv has; run `dvc repro`")
    hashes = np.zeros(len(trained_on), dtype=np.uint64)
    thumbnails = np.zeros((len(trained_on), THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), dtype=np.uint8)
    with ImageZip(images) as archive, progress("compare", total=len(trained_on), unit="images") as bar:
        seen = map_in_threads(lambda path: fingerprint(archive.read_image(path).pixels()), trained_on)
        for i, (perceptual_hash, thumbnail) in enumerate(seen):
            hashes[i], thumbnails[i] = perceptual_hash, thumbnail
            bar.update()
    return TrainingImages(
        pixels_sha256=tuple(sha256_of[path] for path in trained_on), hashes=hashes, thumbnails=thumbnails
    )


def clean_external(
    archive: Path,
    *,
    unzip: UnzipParams,
    clean: CleanParams,
    known: Sequence[str],
    mapping: Mapping[str, str],
    named_by: str,
    trained_on: TrainingImages,
    manifest: Path,
    images: Path,
    scratch: Path,
) -> None:
    """Unpack an archive and keep its sound images, as `clean_images` does; write its manifest and its images.zip.

    The label of a row is the class of the models. Copies of training images are left out, by the duplicate search that
    cleaning uses: a model has seen them with their label.

    Args:
        archive: an archive or a folder.
        unzip: what it may unpack to.
        clean: which images are kept, and in what form; that of the training images.
        known: the classes of the models.
        mapping: see `match_classes`.
        named_by: likewise.
        trained_on: the training images.
        manifest: where the manifest goes.
        images: where the kept images go.
        scratch: a folder for the unpacked files, which go at the end.

    Raises:
        DataError: the archive is missing or broken, a class is none of the models', or fewer than two classes are left.
            Nothing is written then.
    """
    scratch.mkdir(parents=True, exist_ok=True)

    def relabel(rows: list[Row], hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8]) -> list[Row]:
        labels = {row.label for row in rows if row.kept}
        classes = match_classes(labels, known=known, mapping=mapping, archive=archive, named_by=named_by)
        renamed = [dataclasses.replace(row, label=classes.get(row.label, row.label)) for row in rows]
        copies = _find_copies(
            renamed, hashes, thumbnails, trained_on=trained_on, max_hamming_distance=clean.max_hamming_distance
        )
        return [
            dataclasses.replace(row, kept=False, reason=Reason.TRAINED_ON) if i in copies else row
            for i, row in enumerate(renamed)
        ]

    with tempfile.TemporaryDirectory(dir=scratch) as name, tempfile.TemporaryFile(dir=scratch) as spool:
        folder = Path(name) / "images"
        odd = unpack_archive(archive, folder, limits=unzip)
        rows, ends = judge_files(
            folder, params=clean, layout=AS_FOUND, odd=odd, name=str(archive), spool=spool, relabel=relabel
        )
        _require_two_classes(rows, archive)
        with new_file(images) as temporary:
            write_images(temporary, stored_images(rows, kept=True, spool=spool, ends=ends))
        write_manifest(manifest, rows)


def _find_copies(
    rows: list[Row],
    hashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    *,
    trained_on: TrainingImages,
    max_hamming_distance: int,
) -> set[int]:
    """Which of the kept rows are duplicates of a training image, also by way of a third image."""
    kept = [i for i, row in enumerate(rows) if row.kept]
    count = len(trained_on.pixels_sha256)
    first = find_groups(
        [*trained_on.pixels_sha256, *(rows[i].pixels_sha256 for i in kept)],
        hashes=np.concatenate([trained_on.hashes, hashes[kept]]),
        thumbnails=np.concatenate([trained_on.thumbnails, thumbnails[kept]]),
        max_hamming_distance=max_hamming_distance,
    )
    # A group is called by its first member, and training images come first.
    return {index for index, group in zip(kept, first[count:].tolist(), strict=True) if group < count}


def _require_two_classes(rows: Sequence[Row], archive: Path) -> None:
    left = sorted({row.label for row in rows if row.kept})
    if len(left) < 2:
        copies = sum(row.reason == Reason.TRAINED_ON for row in rows)
        has = f"sound images of {enumerate_words(left)} alone" if left else "no sound images in class folders"
        why = f", once its {copies:,} copies of training images are left out" if copies else ""
        raise DataError(f"{archive} has {has}{why}: give an archive with images of two classes or more")
