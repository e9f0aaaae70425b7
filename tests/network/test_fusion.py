"""Faster inference: the same features but for the last bits, and the network itself untouched.

Run with `pytest tests/network/test_fusion.py`.
"""

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from thaw.network.backbones import build_backbone
from thaw.network.classifier import module_sha256
from thaw.network.fusion import _ActivatedConv2d, fold_batch_norm, fuse_for_inference
from thaw.params import FLOAT32, BackboneParams

CPU = torch.device("cpu")
LAST_BITS = 1e-5
"""Of the features' norm; 8e-7 was the most that was seen in fourteen networks."""


def random_images(size_px: int) -> Tensor:
    made = torch.randn(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    return made.contiguous(memory_format=torch.channels_last)


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(layer, kind) for layer in module.modules())


def relative_change(forward: object, module: nn.Module, images: Tensor) -> float:
    assert callable(forward)
    with torch.inference_mode():
        before = module(images)
        return float((forward(images) - before).norm() / before.norm())


def move_statistics(module: nn.Module) -> None:
    """Give BatchNorm something to do: fresh ones change next to nothing."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "norms_left", "fused"),
    [
        ("tf_efficientnet_lite0", 0, 33),
        ("mobilenet_v2", 0, 35),
        ("resnet18", 0, 1),
        # A norm that reads several layers' maps, or stands before its convolution, cannot be folded.
        ("densenet121", 62, 59),
        ("convnext_atto", 0, 0),
    ],
)
def test_all_is_folded_that_can_be(name: str, norms_left: int, fused: int) -> None:
    backbone = build_backbone(BackboneParams(name=name, weights="none", blocks=None, image_size_px=64))
    move_statistics(backbone.module)
    before = module_sha256(backbone.module)
    folded = fold_batch_norm(backbone.module)
    forward = fuse_for_inference(backbone.module, FLOAT32, CPU)
    assert isinstance(forward, nn.Module)
    assert count(folded, nn.BatchNorm2d) == norms_left
    assert count(forward, _ActivatedConv2d) == fused
    assert relative_change(forward, backbone.module, random_images(64)) < LAST_BITS
    assert module_sha256(backbone.module) == before


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_as_tensorflow_pads_is_the_same_in_one_pass(kernel_size: int, stride: int, dilation: int) -> None:
    convolution = Conv2dSame(3, 6, kernel_size, stride=stride, dilation=dilation)
    module = nn.Sequential(convolution, nn.ReLU6()).eval().to(memory_format=torch.channels_last)
    forward = fuse_for_inference(module, FLOAT32, CPU)
    for size_px in (7, 8, 9, 10):
        assert relative_change(forward, module, random_images(size_px)) < LAST_BITS
    assert isinstance(forward, nn.Module)
    assert count(forward, _ActivatedConv2d) == (1 if dilation == 1 else 0)


class _Forked(nn.Module):
    """Its convolution is read twice, so that BatchNorm must stay out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.convolution(images)
        made: Tensor = maps + self.norm(maps)
        return made


class _Asking(_Forked):
    """Its way depends on its images, which torch.fx cannot follow."""

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.norm(self.convolution(images)) if images.sum() > 0 else images
        return made


@pytest.mark.parametrize("kind", [_Forked, _Asking])
def test_what_cannot_be_folded_stays_as_it_is(kind: type[nn.Module]) -> None:
    module = kind().eval()
    move_statistics(module)
    forward = fuse_for_inference(module, FLOAT32, CPU)
    assert relative_change(forward, module, random_images(8)) == 0
    assert isinstance(forward, nn.Module)
    assert count(forward, nn.BatchNorm2d) == 1
