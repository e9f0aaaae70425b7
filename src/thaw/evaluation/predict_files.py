"""Image files -> what a saved model says of each, one after the other: `thaw predict`."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, tee
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.compute.cores import count_own_cores, map_ahead
from thaw.compute.memory import explain_out_of_memory
from thaw.data.decode import Pixels, UndecodableError, decode_image
from thaw.data.image_zip import encode_for_storage
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import Crop, centre_view
from thaw.errors import DataError
from thaw.evaluation.scorer import Scorer
from thaw.params import StorageParams

BATCHES_AHEAD = 2
"""So many batches of images are decoded while others are computed."""


@dataclass(frozen=True, kw_only=True)
class FilePrediction:
    """What a model says of an image file, or why nothing."""

    path: Path

    probabilities: NDArray[np.float64] | None
    """Shape `(C,)`, in the order of the model's classes; None if there is a problem."""

    problem: str = ""
    """Why the file cannot be read or decoded."""


def predict_files(scorer: Scorer, files: Sequence[Path]) -> Iterator[FilePrediction]:
    """Yield what a model says of each file, in their order, while the next ones are decoded and computed.

    A file is decoded, turned upright and shrunk as cleaning does it, so that an image of the data set gets the
    probabilities that evaluation gave it. Memory does not grow with the number of files, and a broken one stops none.

    Raises:
        TrainingError: a batch does not fit into the memory.
    """
    read = partial(_read_view, storage=scorer.card.storage, crop=scorer.crop)
    guard = explain_out_of_memory(f"predicting {scorer.batch_size} images at once", remedy="close other programs")
    with guard, ThreadPoolExecutor(count_own_cores()) as pool:
        views = map_ahead(pool, read, files, ahead=BATCHES_AHEAD * scorer.batch_size)
        views, views_again = tee(views)
        sound = (view for view in views_again if not isinstance(view, str))
        scored = chain.from_iterable(scorer.score_batches(_batch(sound, scorer.batch_size)))
        for path, view in zip(files, views, strict=True):
            if isinstance(view, str):
                yield FilePrediction(path=path, probabilities=None, problem=view)
            else:
                yield FilePrediction(path=path, probabilities=next(scored))


def _batch(views: Iterator[Pixels], size: int) -> Iterator[Pixels]:
    """Views, a batch at a time, shape `(B, S, S, 3)`."""
    while batch := list(islice(views, size)):
        yield np.stack(batch)


def _read_view(path: Path, *, storage: StorageParams, crop: Crop) -> Pixels | str:
    """An image file as the network sees it, shape `(S, S, 3)`, or what is wrong with it."""
    try:
        return centre_view(read_as_stored(path, storage=storage), crop)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except UndecodableError as error:
        return f"{error.fault} ({error.detail})"
    except DataError as error:
        return str(error)


def read_as_stored(path: Path, *, storage: StorageParams) -> StoredImage:
    """An image file as images.zip would hold it.

    Raises:
        OSError: the file cannot be read.
        UndecodableError: it is no sound image.
    """
    data = path.read_bytes()
    decoded = decode_image(data, max_pixels=storage.max_pixels)
    return StoredImage(encode_for_storage(decoded, data, side_px=storage.side_px), place=str(path))
