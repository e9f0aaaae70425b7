"""Pictures from anywhere -> what they show, and how often that is right, with a saved model."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thaw.archive import unpack_archive
from thaw.batches import batches, centre_view, normalise
from thaw.clean import clean_pictures
from thaw.errors import DataError
from thaw.images import PicturesFile, UndecodableError, decode
from thaw.manifest import read_manifest
from thaw.model import load_model
from thaw.params import CleanParams, UnzipParams
from thaw.progress import progress

MAX_PIXELS = 100_000_000
"""A picture with more is refused: decoding it could take all memory."""


def predict_pictures(model: Path, pictures: Sequence[Path]) -> Iterator[tuple[Path, dict[str, float]]]:
    """Yield each picture with the probability of each class.

    Raises:
        DataError: the model or a picture is missing or broken.
    """
    classifier = load_model(model).classifier
    for path in pictures:
        try:
            pixels = decode(path.read_bytes(), max_pixels=MAX_PIXELS)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})") from None
        except UndecodableError as error:
            raise DataError(f"{path} is not a sound picture: {error}") from None
        view = torch.from_numpy(centre_view(pixels, classifier.preprocessing).copy())
        with torch.inference_mode():
            batch = normalise(view[None], classifier.preprocessing, torch.device("cpu"))
            probabilities = classifier(batch).double().softmax(dim=1)[0].tolist()
        yield path, dict(zip(classifier.classes, probabilities, strict=True))


@dataclass(frozen=True, kw_only=True)
class ArchiveScore:
    """How a model does on the pictures of an archive."""

    pictures: int
    """Sound ones, in class folders; copies of one picture count as one each."""

    correct: int


def score_archive(
    model: Path, archive: Path, *, unzip: UnzipParams, clean: CleanParams, batch_size: int
) -> ArchiveScore:
    """Let a model name the pictures of another archive, unpacked and cleaned as the pipeline does it.

    For pictures that differ from those that it learnt from in kind: another camera, another taste. What the archive
    shares with the training pictures is not looked for.

    Raises:
        DataError: the model or the archive is missing or broken, or the archive has a class that the model does not
            know.
    """
    classifier = load_model(model).classifier
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        unpack_archive(archive, scratch / "pictures", limits=unzip)
        clean_pictures(
            scratch / "pictures",
            params=clean,
            manifest=scratch / "manifest.csv",
            pictures=scratch / "pictures.zip",
            dropped=scratch / "dropped.zip",
        )
        rows = [row for row in read_manifest(scratch / "manifest.csv") if row.kept]
        unknown = sorted({row.label for row in rows} - set(classifier.classes))
        if unknown:
            raise DataError(
                f"{archive} has the class {unknown[0]!r}, which the model does not know "
                f"({', '.join(classifier.classes)}): rename its folders"
            )
        truth = [classifier.classes.index(row.label) for row in rows]
        correct = 0
        with PicturesFile(scratch / "pictures.zip") as pictures, torch.inference_mode():

            def view(index: int) -> NDArray[np.uint8]:
                return centre_view(pictures.read_pixels(rows[index].path), classifier.preprocessing)

            with progress("test", total=len(rows), unit="pictures") as bar:
                for indices, views in batches(range(len(rows)), view, batch_size=batch_size):
                    logits = classifier(normalise(views, classifier.preprocessing, torch.device("cpu")))
                    predicted = logits.argmax(dim=1).tolist()
                    correct += sum(predicted[i] == truth[index] for i, index in enumerate(indices))
                    bar.update(len(indices))
    return ArchiveScore(pictures=len(rows), correct=correct)
