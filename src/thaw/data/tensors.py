"""Views -> the tensors that a network computes with; apart from `transforms`, which needs no torch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thaw.data.transforms import Preprocessing


def normalise(views: NDArray[np.uint8] | Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Views, shape `(B, S, S, 3)`, uint8 -> images, shape `(B, 3, S, S)`, float32, channels last, on `device`."""
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
