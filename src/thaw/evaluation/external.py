"""Accuracy on external data: another archive with the same classes, unpacked and cleaned as the pipeline does it."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.data.clean import clean_images
from thaw.data.image_zip import ImageZip
from thaw.data.manifest import read_manifest
from thaw.errors import DataError
from thaw.evaluation.predict import predict_images
from thaw.ingest.unpack import unpack_archive
from thaw.network.classifier import load_model
from thaw.params import CleanParams, ComputeParams, UnzipParams


@dataclass(frozen=True, kw_only=True)
class ExternalScore:
    """How a model does on the images of an archive."""

    model: Path

    images: int
    """Sound ones, in class folders; copies of one image count as one each."""

    correct: int


def evaluate_external(
    models: Sequence[Path],
    archive: Path,
    *,
    unzip: UnzipParams,
    clean: CleanParams,
    compute: ComputeParams,
    batch_size: int,
) -> Iterator[ExternalScore]:
    """Evaluate models on another archive, one after the other.

    For images that differ from the training images in kind: another camera, another taste. What the archive shares with
    the training images is not looked for.

    Raises:
        DataError: a model or the archive is missing or broken, or the archive has a class that a model does not know.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        odd = unpack_archive(archive, scratch / "images", limits=unzip)
        clean_images(
            scratch / "images",
            params=clean,
            manifest=scratch / "manifest.csv",
            images=scratch / "images.zip",
            dropped=scratch / "dropped.zip",
            odd=odd,
            name=str(archive),
        )
        rows = [row for row in read_manifest(scratch / "manifest.csv") if row.kept]
        with ImageZip(scratch / "images.zip") as images:
            for model in models:
                saved = load_model(model)
                classifier = saved.classifier
                unknown = sorted({row.label for row in rows} - set(classifier.classes))
                if unknown:
                    raise DataError(
                        f"{archive} has the class {unknown[0]!r}, which {model} does not know "
                        f"({', '.join(classifier.classes)}): rename its folders"
                    )
                probabilities = predict_images(
                    classifier,
                    lambda index: images.read_image(rows[index].path),
                    count=len(rows),
                    batch_size=batch_size,
                    label=str(model),
                    temperature=saved.card.temperature,
                    compute=compute,
                )
                labels = np.array([classifier.classes.index(row.label) for row in rows])
                correct = int(np.sum(probabilities.argmax(axis=1) == labels))
                yield ExternalScore(model=model, images=len(rows), correct=correct)
