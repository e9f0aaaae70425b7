"""Images -> what a network that is not trained makes of K views of each, computed once.

The network sees batches of one size alone, the last one filled up: how many images there are changes no image's result.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thaw.compute.inference import infer_in_order
from thaw.data.decode import Pixels
from thaw.data.image_zip import ImageZip
from thaw.data.loader import batches
from thaw.data.stored_image import StoredImage
from thaw.data.tensors import normalise
from thaw.data.transforms import Preprocessing, centre_view, random_view
from thaw.params import ComputeParams
from thaw.utils.random_streams import random_stream


def images_at_once(batch_size: int, *, views: int) -> int:
    """How many images have all their views in one batch."""
    return max(1, batch_size // views)


def infer_views(
    forward: Callable[[Tensor], Tensor],
    archive: ImageZip,
    paths: Sequence[str],
    *,
    preprocessing: Preprocessing,
    views: int,
    batch_size: int,
    compute: ComputeParams,
    device: torch.device,
) -> Iterator[NDArray[np.float32]]:
    """Yield what `forward` makes of the images in `paths`, a batch at a time, in order: shape `(B, views, ...)`.

    Args:
        forward: images, shape `(B, 3, S, S)` -> anything of shape `(B, ...)`, float32, without gradients.
        archive: the images.
        paths: which of them.
        preprocessing: how the network wants to be shown them.
        views: of each image: the centre, and `views` - 1 augmented ones.
        batch_size: views in one forward pass; all views of an image are in the same.
        compute: how the device computes.
        device: which device.
    """
    at_once = images_at_once(batch_size, views=views)

    def views_of(index: int) -> Pixels:
        return _cut_views(archive.read_image(paths[index]), paths[index], preprocessing, count=views)

    def infer(batch: tuple[list[int], Pixels]) -> NDArray[np.float32]:
        rows, cut = batch
        full = np.resize(cut, (at_once * views, *cut.shape[2:]))  # the last batch: filled by repeating
        made = forward(normalise(full, preprocessing, device)).cpu().numpy()  # (B, ...)
        return made[: len(rows) * views].reshape(len(rows), views, *made.shape[1:])

    cut_batches = batches(range(len(paths)), views_of, batch_size=at_once)
    yield from infer_in_order(infer, cut_batches, compute=compute, device=device)


def _cut_views(image: StoredImage, path: str, preprocessing: Preprocessing, *, count: int) -> Pixels:
    """The centre view and `count` - 1 augmented ones, shape `(count, S, S, 3)`, uint8.

    What is random depends on the image's path and the view's number alone.
    """
    name = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8])
    augmented = (random_view(image, preprocessing, random_stream(name, number)) for number in range(1, count))
    return np.stack([centre_view(image, preprocessing), *augmented])
