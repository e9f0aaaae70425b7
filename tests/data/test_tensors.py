"""Views as the numbers that a network sees.

Run with `pytest tests/data/test_tensors.py`.
"""

import numpy as np
import torch

from thaw.data.tensors import normalise
from thaw.data.transforms import Preprocessing

SMALL = Preprocessing(
    image_size_px=32, resize_px=40, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0)
)


def test_normalise() -> None:
    views = np.full((2, 4, 4, 3), 255, np.uint8)
    images = normalise(views, SMALL, torch.device("cpu"))
    assert images.shape == (2, 3, 4, 4)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images[0, :, 0, 0].tolist() == [2.0, 1.0, 0.5]
