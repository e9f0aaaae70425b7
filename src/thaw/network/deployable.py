"""A classifier with its preprocessing inside: uint8 images of any size -> probabilities, for use without this package.

Nothing here but torch's operators, so that torch.export and the ONNX exporter can follow every step.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from thaw.data.transforms import Preprocessing
from thaw.network.classifier import Classifier

_COEFFICIENT_ONE = 2.0**22
"""Pillow rounds the coefficients of a resize to integers, of which so many are 1.0."""


def describe_view(preprocessing: Preprocessing) -> dict[str, Any]:
    """How views are cut, for whoever does it elsewhere; normalising them is the network's part."""
    return {
        "image_size_px": preprocessing.image_size_px,
        "resize_px": preprocessing.resize_px,
        "interpolation": preprocessing.interpolation,
    }


class Deployable(nn.Module):
    """Whole images, shape `(B, H, W, 3)`, uint8 -> probabilities and logits, both `(B, classes)`, float32."""

    def __init__(self, classifier: Classifier, *, temperature: float) -> None:
        super().__init__()
        self.view = CentreView(classifier.preprocessing)
        self.network = ViewClassifier(classifier, temperature=temperature)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        scores: tuple[Tensor, Tensor] = self.network(self.view(images))
        return scores


class ViewClassifier(nn.Module):
    """Views, shape `(B, S, S, 3)`, uint8 -> probabilities and logits, both `(B, classes)`, float32."""

    def __init__(self, classifier: Classifier, *, temperature: float) -> None:
        super().__init__()
        # The names of a saved model's tensors, so that a graph made of this can be filled with them.
        self.backbone, self.head = classifier.backbone, classifier.head
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self.temperature: Tensor
        self.register_buffer("pixel_mean", torch.tensor(classifier.preprocessing.mean))
        self.register_buffer("pixel_std", torch.tensor(classifier.preprocessing.std))
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        images = ((views.float() / 255 - self.pixel_mean) / self.pixel_std).permute(0, 3, 1, 2)
        logits: Tensor = self.head(self.backbone(images))
        return (logits / self.temperature).softmax(dim=1), logits


class CentreView(nn.Module):
    """`data.transforms.centre_view` of decoded images, bit for bit: shape `(B, H, W, 3)` -> `(B, S, S, 3)`, uint8.

    Pillow resizes one axis after the other, rounds to 8 bits after each, and computes with integers
    (https://github.com/python-pillow/Pillow, src/libImaging/Resample.c). float64 holds all of them exactly, so a matrix
    product gives the same pixels on every runtime; an operator `Resize` means something else on each.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.size_px = preprocessing.image_size_px
        self.crop_share = preprocessing.image_size_px / preprocessing.resize_px
        self.interpolation = preprocessing.interpolation

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[1], images.shape[2]
        side: Any = torch.sym_min(height, width)
        rows = self._coefficients(height, side)  # (S, H)
        columns = self._coefficients(width, side)  # (S, W)
        planes = images.permute(0, 3, 1, 2).double()  # (B, 3, H, W)
        # Pillow begins with the axis that makes less work.
        vertical_first = (height > self.size_px) & (height + self.size_px > 2 * width)
        views: Tensor = torch.cond(
            vertical_first,
            lambda planes, rows, columns: _round(_round(rows @ planes) @ columns.T),
            lambda planes, rows, columns: _round(rows @ _round(planes @ columns.T)),
            (planes, rows, columns),
        )
        return views.permute(0, 2, 3, 1).to(torch.uint8)

    def _coefficients(self, length: int, side: int) -> Tensor:
        """What each pixel of an axis contributes to each of the view, shape `(S, length)`, as integers in float64."""
        share = side * torch.tensor(self.crop_share, dtype=torch.float64)
        first = (length - share) / 2
        # Pillow takes the box as float32.
        start = first.float()
        extent = ((first + share).float() - start).double()
        scale = extent / self.size_px
        centres = start.double() + (torch.arange(self.size_px, dtype=torch.float64) + 0.5) * scale
        places = torch.arange(length, dtype=torch.float64) + 0.5
        distances = (places - centres[:, None]).abs() / scale.clamp(min=1)
        weights = _filter(distances, self.interpolation)
        scaled = weights / weights.sum(dim=1, keepdim=True) * _COEFFICIENT_ONE
        return torch.trunc(scaled + 0.5 * scaled.sign())


def _filter(distances: Tensor, kind: Literal["bilinear", "bicubic"]) -> Tensor:
    """Pillow's filters of the distance from the centre, in pixels of the coarser image."""
    if kind == "bilinear":
        return (1 - distances).clamp(min=0)
    near = (1.5 * distances - 2.5) * distances**2 + 1
    far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
    return torch.where(distances < 1, near, torch.where(distances < 2, far, torch.zeros_like(far)))


def _round(sums: Tensor) -> Tensor:
    """Sums of pixels times coefficients -> pixels, 0 to 255."""
    return torch.floor(sums / _COEFFICIENT_ONE + 0.5).clamp(0, 255)
