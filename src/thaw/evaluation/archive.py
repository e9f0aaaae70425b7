"""Accuracy on another archive with the same classes, unpacked and cleaned as the pipeline does it: `thaw evaluate`."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.compute.determinism import make_deterministic
from thaw.data.clean import clean_images
from thaw.data.external import match_classes
from thaw.data.image_zip import ImageZip
from thaw.errors import DataError
from thaw.evaluation.external import predict_rows, read_kept
from thaw.evaluation.predictions_csv import require_finite
from thaw.evaluation.significance import accuracy_interval
from thaw.ingest.archive_reader import check_archive
from thaw.ingest.unpack import unpack_archive
from thaw.network.classifier import load_model
from thaw.network.model_card import read_model_card
from thaw.network.model_folder import require_model_folder
from thaw.params import CleanParams, ComputeParams, StorageParams, UnzipParams


@dataclass(frozen=True, kw_only=True)
class ArchiveScore:
    """How a model does on the images of an archive."""

    model: Path

    images: int
    """Sound ones, in class folders; of copies, each."""

    correct: int

    interval: tuple[float, float]
    """95 % interval of the accuracy on new images from the same source, for which copies of an image count as one."""


def evaluate_on_archive(
    models: Sequence[Path],
    archive: Path,
    *,
    classes: Mapping[str, str],
    unzip: UnzipParams,
    clean: CleanParams,
    compute: ComputeParams,
    batch_size: int,
) -> Iterator[ArchiveScore]:
    """Evaluate models, from this project or others, on another archive, one after the other.

    For images that differ from the training images in kind: another camera, another taste. Copies of training images
    are counted as any other, since a model does not say what it was trained on.

    Raises:
        DataError: a model or the archive is missing or broken, a model's probabilities are not finite, the archive has
            a class that a model does not know, or the models were trained on images that were stored in different ways.
    """
    make_deterministic(compute)
    check_archive(archive, named_by="--data")
    storage = _agree_on_storage(models)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        clean_images(
            unpack_archive(archive, scratch / "images", limits=unzip),
            params=clean.model_copy(update=storage.model_dump()),
            manifest=scratch / "manifest.csv",
            images=scratch / "images.zip",
            dropped=scratch / "dropped.zip",
        )
        rows = read_kept(scratch / "manifest.csv")
        groups = np.unique([row.duplicate_group or row.path for row in rows], return_inverse=True)[1]  # (N,)
        found = {row.label for row in rows}
        with ImageZip(scratch / "images.zip") as images:
            for model in models:
                saved = load_model(model)
                known = saved.card.classes
                meant = match_classes(found, known=known, mapping=classes, archive=archive, named_by="--classes")
                labels = np.array([known.index(meant[row.label]) for row in rows])
                probabilities = predict_rows(
                    saved, images, rows, batch_size=batch_size, compute=compute, label=str(model)
                )
                require_finite(probabilities, model=model)
                correct = probabilities.argmax(axis=1) == labels  # (N,)
                yield ArchiveScore(
                    model=model,
                    images=len(rows),
                    correct=int(correct.sum()),
                    interval=accuracy_interval(correct, groups=groups),
                )


def _agree_on_storage(models: Sequence[Path]) -> StorageParams:
    """How the images are stored that the models were trained on: those to test on are stored alike."""
    for model in models:
        require_model_folder(model)
    storages = [read_model_card(model).storage for model in models]
    for model, storage in zip(models, storages, strict=True):
        if storage != storages[0]:
            raise DataError(
                f"{models[0]} and {model} were trained on images of different clean.side_px ({storages[0].side_px} and "
                f"{storage.side_px}) or clean.max_pixels: evaluate them one by one"
            )
    return storages[0]
