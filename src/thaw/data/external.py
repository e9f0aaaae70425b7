"""Another archive of labelled images -> images to test on: its classes matched, copies of training images left out."""

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from thaw.data.clean import judge_files, stored_images
from thaw.data.duplicates import Fingerprints, find_groups
from thaw.data.fingerprints import read_fingerprints
from thaw.data.image_zip import write_images
from thaw.data.layouts import fold_name
from thaw.data.manifest import Reason, Row, read_manifest, write_manifest
from thaw.data.splits_csv import SplitTable
from thaw.errors import DataError
from thaw.ingest.unpack import unpack_archive
from thaw.params import CleanParams, UnzipParams
from thaw.utils.atomic import new_file
from thaw.utils.words import enumerate_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """The images that models were trained or validated on, for what is a copy of one."""

    pixels_sha256: tuple[str, ...]
    """Of N images."""

    fingerprints: Fingerprints


def match_classes(
    found: Iterable[str], *, known: Sequence[str], mapping: Mapping[str, str], archive: Path, named_by: str
) -> dict[str, str]:
    """Class of an archive -> the class of the models that it is.

    Names are equal if they differ only in upper and lower case, in spaces around or between their words, or in their
    Unicode form; where the models have two such classes, only the very name counts.

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
    folded = {fold_name(name): name for name in labels}
    for name in mapping:
        if fold_name(name) not in folded:
            raise DataError(
                f"{named_by} names the class {name!r}, which {archive} does not have ({', '.join(labels)}): correct it"
            )
    meant = {fold_name(name): target for name, target in mapping.items()}
    classes = {}
    for label in labels:
        target = meant.get(fold_name(label), label)
        near = [name for name in known if fold_name(name) == fold_name(target)]
        match = target if target in known else near[0] if len(near) == 1 else None
        if match is None:
            called = repr(label) if target == label else f"{label!r}, by {named_by} {target!r}"
            raise DataError(
                f"{archive} has the class {called}, which is none of the models' classes ({', '.join(known)}): "
                f"say in {named_by} which of them it is"
            )
        classes[label] = match
    return classes


def read_training_images(manifest: Path, fingerprints: Path, *, splits: SplitTable) -> TrainingImages:
    """What `clean_external` compares with: all images of train and val, as cleaning saw them.

    Raises:
        DataError: a file that a stage wrote is missing, or does not fit the others.
    """
    trained_on = [path for path, split in zip(splits.paths, splits.splits, strict=True) if split != "test"]
    sha256_of = {row.path: row.pixels_sha256 for row in read_manifest(manifest)}
    images, seen = read_fingerprints(fingerprints)
    row = {path: number for number, path in enumerate(images)}
    missing = [path for path in trained_on if path not in sha256_of or path not in row]
    if missing:
        raise DataError(f"{manifest} has no image {missing[0]!r}, but data/splits.csv has; run `dvc repro`")
    return TrainingImages(
        pixels_sha256=tuple(sha256_of[path] for path in trained_on),
        fingerprints=seen.select([row[path] for path in trained_on]),
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

    def relabel(rows: list[Row], fingerprints: Fingerprints) -> list[Row]:
        labels = {row.label for row in rows if row.kept}
        classes = match_classes(labels, known=known, mapping=mapping, archive=archive, named_by=named_by)
        renamed = [dataclasses.replace(row, label=classes.get(row.label, row.label)) for row in rows]
        copies = _find_copies(
            renamed, fingerprints, trained_on=trained_on, max_hamming_distance=clean.max_hamming_distance
        )
        return [
            dataclasses.replace(row, kept=False, reason=Reason.TRAINED_ON) if i in copies else row
            for i, row in enumerate(renamed)
        ]

    with tempfile.TemporaryDirectory(dir=scratch) as name, tempfile.TemporaryFile(dir=scratch) as spool:
        files = unpack_archive(archive, Path(name) / "images", limits=unzip)
        judged = judge_files(files, params=clean, layout=None, spool=spool, relabel=relabel)
        _require_two_classes(judged.rows, archive)
        with new_file(images) as temporary:
            write_images(temporary, stored_images(judged, kept=True, spool=spool))
        write_manifest(manifest, judged.rows)


def _find_copies(
    rows: list[Row], fingerprints: Fingerprints, *, trained_on: TrainingImages, max_hamming_distance: int
) -> set[int]:
    """Which of the kept rows are duplicates of a training image, also by way of a third image."""
    kept = [i for i, row in enumerate(rows) if row.kept]
    count = len(trained_on.pixels_sha256)
    first = find_groups(
        [*trained_on.pixels_sha256, *(rows[i].pixels_sha256 for i in kept)],
        trained_on.fingerprints + fingerprints.select(kept),
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
