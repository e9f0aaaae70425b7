"""Pictures -> batches of tensors, prepared ahead in threads while the network computes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from thaw.backbones import Preprocessing
from thaw.images import Pixels

View = Callable[[int], Pixels]
"""The index of a picture -> its pixels as the network sees them, shape `(S, S, 3)` or, of K views, `(K, S, S, 3)`."""

BATCHES_AHEAD = 3


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """A generator that depends on nothing but its name: the same for each variant, thread and machine.

    Philox is counter-based (Salmon et al., SC 2011), so thousands of streams cost nothing to start.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *key])))


def centre_view(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Resize the short side and cut the middle square: how a picture is looked at when nothing is learnt.

    Args:
        pixels: shape `(H, W, 3)`, uint8.
        preprocessing: the backbone's.

    Returns:
        Shape `(S, S, 3)`, uint8.
    """
    height, width, _ = pixels.shape
    side = min(height, width) * preprocessing.image_size_px / preprocessing.resize_px
    left, top = (width - side) / 2, (height - side) / 2
    return _resize(pixels, (left, top, left + side, top + side), preprocessing)


def random_view(pixels: Pixels, preprocessing: Preprocessing, random: np.random.Generator) -> Pixels:
    """A random part of the picture, possibly mirrored: the usual augmentation (Szegedy et al., CVPR 2015).

    The part covers 35 to 100 % of the area and is up to a third wider than high, or higher than wide. Shapes and
    dtypes are those of `centre_view`.
    """
    height, width, _ = pixels.shape
    area = height * width * random.uniform(0.35, 1.0)
    aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    part_width = min(width, float(np.sqrt(area * aspect)))
    part_height = min(height, float(np.sqrt(area / aspect)))
    left = random.uniform(0, width - part_width)
    top = random.uniform(0, height - part_height)
    view = _resize(pixels, (left, top, left + part_width, top + part_height), preprocessing)
    return view[:, ::-1] if random.random() < 0.5 else view


def _resize(pixels: Pixels, box: tuple[float, float, float, float], preprocessing: Preprocessing) -> Pixels:
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    size = (preprocessing.image_size_px, preprocessing.image_size_px)
    resized = Image.fromarray(pixels).resize(size, resample[preprocessing.interpolation], box=box)
    return np.asarray(resized)


def normalise(views: NDArray[np.uint8] | Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Views, shape `(B, S, S, 3)`, uint8 -> pictures, shape `(B, 3, S, S)`, float32, channels last, on `device`."""
    host = torch.as_tensor(views)
    if device.type == "cuda":
        # A GPU fetches pinned memory by itself, several times as fast.
        host = host.pin_memory()
    batch, height, width, channels = host.shape
    # Whole rows of pixels at a time: with three numbers in the innermost loop, arithmetic takes twice as long.
    rows = host.to(device, non_blocking=True).view(batch, height, width * channels).float()
    mean = torch.tensor(preprocessing.mean * width, device=device)
    std = torch.tensor(preprocessing.std * width, device=device)
    rows.div_(255).sub_(mean).div_(std)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def batches(order: Sequence[int], view: View, *, batch_size: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Yield the pictures in `order`, a batch at a time, while threads prepare the next ones.

    Decoding and resizing release Python's lock, so threads use all cores and share one open archive. The result does
    not depend on which thread comes first.

    Yields:
        The indices of a batch and what `view` made of them, shape `(B, S, S, 3)`, uint8 (or `(B, K, S, S, 3)`).
    """
    groups = [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        ahead: deque[list[Future[Pixels]]] = deque()
        try:
            for number, group in enumerate(groups):
                while len(ahead) < BATCHES_AHEAD and number + len(ahead) < len(groups):
                    ahead.append([pool.submit(view, index) for index in groups[number + len(ahead)]])
                yield group, np.stack([future.result() for future in ahead.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)
