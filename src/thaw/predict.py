"""Pictures from anywhere -> what they show, with a saved model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from thaw.batches import centre_view, normalise
from thaw.errors import DataError
from thaw.images import UndecodableError, decode
from thaw.model import load_model

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
