"""Pictures from anywhere -> what they show, and how often that is right, with a saved model."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thaw.archive import unpack_archive
from thaw.batches import batches, centre_view, normalise
from thaw.clean import clean_pictures
from thaw.device import memory_explained
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

    model: Path

    pictures: int
    """Sound ones, in class folders; copies of one picture count as one each."""

    correct: int


def score_archive(
    models: Sequence[Path], archive: Path, *, unzip: UnzipParams, clean: CleanParams, batch_size: int
) -> Iterator[ArchiveScore]:
    """Let models name the pictures of another archive, unpacked and cleaned as the pipeline does it.

    For pictures that differ from those that they learnt from in kind: another camera, another taste. What the archive
    shares with the training pictures is not looked for.

    Raises:
        DataError: a model or the archive is missing or broken, or the archive has a class that a model does not know.
    """
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
        labels = {row.path: row.label for row in read_manifest(scratch / "manifest.csv") if row.kept}
        with PicturesFile(scratch / "pictures.zip") as pictures:
            for model in models:
                correct = _count_correct(model, pictures, labels, archive=archive, batch_size=batch_size)
                yield ArchiveScore(model=model, pictures=len(labels), correct=correct)


def _count_correct(
    model: Path, pictures: PicturesFile, labels: Mapping[str, str], *, archive: Path, batch_size: int
) -> int:
    """Of how many pictures a model says the label; `labels` has it by path."""
    classifier = load_model(model).classifier
    unknown = sorted(set(labels.values()) - set(classifier.classes))
    if unknown:
        raise DataError(
            f"{archive} has the class {unknown[0]!r}, which {model} does not know ({', '.join(classifier.classes)}): "
            "rename its folders"
        )
    paths = list(labels)

    def view(index: int) -> NDArray[np.uint8]:
        return centre_view(pictures.read_pixels(paths[index]), classifier.preprocessing)

    correct = 0
    guard = memory_explained(f"predicting {batch_size} pictures at once", remedy="set embed.batch_size to less")
    with guard, torch.inference_mode(), progress(str(model), total=len(paths), unit="pictures") as bar:
        for indices, views in batches(range(len(paths)), view, batch_size=batch_size):
            predicted = classifier(normalise(views, classifier.preprocessing, torch.device("cpu"))).argmax(dim=1)
            names = [classifier.classes[number] for number in predicted.tolist()]
            correct += sum(labels[paths[index]] == name for index, name in zip(indices, names, strict=True))
            bar.update(len(indices))
    return correct
