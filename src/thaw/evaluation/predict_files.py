"""Image files -> what a saved model says of each, one after the other: `thaw predict`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.compute.cores import count_own_cores, map_ahead
from thaw.compute.device import choose_device
from thaw.compute.inference import infer_in_order
from thaw.compute.memory import explain_out_of_memory
from thaw.data.decode import Pixels, UndecodableError, decode_image
from thaw.data.image_zip import encode_for_storage
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import Preprocessing, centre_view
from thaw.errors import DataError
from thaw.evaluation.predict import score_views
from thaw.evaluation.predictions_csv import Probabilities
from thaw.network.classifier import SavedModel
from thaw.params import ComputeParams, StorageParams

BATCH_SIZE = 16
"""Images in one forward pass: larger batches are hardly faster, and results would come later."""
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


def predict_files(
    model: SavedModel, files: Sequence[Path], *, batch_size: int = BATCH_SIZE
) -> Iterator[FilePrediction]:
    """Yield what a model says of each file, in their order, while the next ones are decoded and computed.

    A file is decoded, turned upright and shrunk as cleaning does it, so that an image of the data set gets the
    probabilities that evaluation gave it. Memory does not grow with the number of files, and a broken one stops none.

    Raises:
        TrainingError: a batch does not fit into the memory.
    """
    if not files:
        return
    size, cores = min(batch_size, len(files)), count_own_cores()
    # All cores share the one batch that there is, or else each computes batches of its own.
    compute = ComputeParams(threads=cores if len(files) <= batch_size else 1)
    score = score_views(model.classifier, batch_size=size, temperature=model.card.temperature, compute=compute)
    read = partial(_read_view, storage=model.card.storage, preprocessing=model.classifier.preprocessing)
    guard = explain_out_of_memory(f"predicting {size} images at once", remedy="close other programs")
    with guard, ThreadPoolExecutor(cores) as pool:
        views = map_ahead(pool, read, files, ahead=BATCHES_AHEAD * size)
        groups = _group(zip(files, views, strict=True), size)
        predict = partial(_predict_group, score=score)
        for predicted in infer_in_order(predict, groups, compute=compute, device=choose_device()):
            yield from predicted


def _predict_group(
    group: Sequence[tuple[Path, Pixels | str]], *, score: Callable[[Pixels], Probabilities]
) -> list[FilePrediction]:
    """What a model says of some files, each with its view or what is wrong with it."""
    sound = [view for _, view in group if not isinstance(view, str)]
    rows = iter(score(np.stack(sound)) if sound else ())
    return [
        FilePrediction(path=path, probabilities=None, problem=view)
        if isinstance(view, str)
        else FilePrediction(path=path, probabilities=next(rows))
        for path, view in group
    ]


def _group(items: Iterator[tuple[Path, Pixels | str]], size: int) -> Iterator[list[tuple[Path, Pixels | str]]]:
    while group := list(islice(items, size)):
        yield group


def _read_view(path: Path, *, storage: StorageParams, preprocessing: Preprocessing) -> Pixels | str:
    """An image file as the network sees it, shape `(S, S, 3)`, or what is wrong with it."""
    try:
        return centre_view(read_as_stored(path, storage=storage), preprocessing)
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
