"""Backbones: the right blocks, widths and preprocessing, or one sentence that says what is wrong.

Run with `pytest tests/network/test_backbones.py`.
"""

import re
from typing import Literal

import pytest
import timm
import torch
import torchvision

from conftest import ROOT
from thaw.errors import ConfigError
from thaw.network.backbones import backbone_names, block_shapes, build_backbone, library_of
from thaw.network.classifier import module_sha256
from thaw.network.weights import BUNDLED
from thaw.params import BackboneParams


def params(
    name: str, *, weights: Literal["imagenet", "none"] = "none", blocks: int | None = None, size_px: int = 64
) -> BackboneParams:
    return BackboneParams(name=name, weights=weights, blocks=blocks, image_size_px=size_px)


# name, blocks, image in px, parameters, width, what the last block makes of an image
FAMILIES = [
    ("alexnet", None, 64, 2_469_696, 256, (256, 1, 1)),
    ("alexnet", 3, 64, 23_296, 64, (64, 7, 7)),
    ("vgg16_bn", None, 64, 14_723_136, 512, (512, 2, 2)),
    ("vgg16_bn", 3, 64, 1_920, 64, (64, 64, 64)),
    ("squeezenet1_1", None, 64, 722_496, 512, (512, 3, 3)),
    ("squeezenet1_1", 3, 64, 1_792, 64, (64, 15, 15)),
    ("resnet18", None, 64, 11_176_512, 512, (512, 2, 2)),
    ("resnet18", 3, 64, 683_072, 128, (128, 8, 8)),
    ("resnet50", None, 64, 23_508_032, 2048, (2048, 2, 2)),
    ("resnet50", 3, 64, 1_444_928, 512, (512, 8, 8)),
    ("mobilenet_v2", None, 64, 2_223_872, 1280, (1280, 2, 2)),
    ("mobilenet_v2", 3, 64, 6_960, 24, (24, 16, 16)),
    ("mobilenet_v3_small", None, 64, 927_008, 576, (576, 2, 2)),
    ("mobilenet_v3_small", 5, 32, 24_224, 40, (40, 2, 2)),
    ("mobilenet_v3_small", 5, 224, 24_224, 40, (40, 14, 14)),
    ("efficientnet_b0", None, 64, 4_007_548, 1280, (1280, 2, 2)),
    ("efficientnet_b0", 3, 64, 19_090, 24, (24, 16, 16)),
    ("mnasnet0_5", None, 64, 937_512, 1280, (1280, 2, 2)),
    ("mnasnet0_5", 3, 64, 464, 16, (16, 32, 32)),
    ("shufflenet_v2_x0_5", None, 64, 341_792, 1024, (1024, 2, 2)),
    ("shufflenet_v2_x0_5", 3, 64, 53_184, 96, (96, 4, 4)),
    ("tf_efficientnet_lite0", None, 64, 3_371_008, 1280, (1280,)),
    ("tf_efficientnet_lite0", 3, 64, 55_504, 40, (40, 8, 8)),
    ("densenet121", None, 64, 6_953_856, 1024, (1024, 2, 2)),
    ("densenet121", 3, 64, 1_297_536, 512, (512, 8, 8)),
    ("inception_v3", None, 96, 21_785_568, 2048, (2048, 1, 1)),
    ("inception_v3", 3, 96, 991_200, 288, (288, 9, 9)),
    ("convnext_tiny", None, 64, 27_820_128, 768, (768,)),
    ("convnext_tiny", 3, 64, 12_348_000, 384, (384, 4, 4)),
    ("mobilenetv3_small_050", 3, 64, 5_128, 16, (16, 8, 8)),
    ("resnet18d", 3, 64, 702_304, 128, (128, 8, 8)),
    ("regnety_002", None, 64, 2_793_996, 368, (368, 2, 2)),
    ("regnety_002", 3, 64, 16_414, 56, (56, 8, 8)),
    ("vit_tiny_patch16_224", None, 224, 5_524_416, 192, (192,)),
    ("vit_tiny_patch16_224", 3, 224, 1_520_256, 192, (192, 14, 14)),
    ("swin_tiny_patch4_window7_224", None, 224, 27_519_354, 768, (768,)),
    ("swin_tiny_patch4_window7_224", 3, 224, 12_151_242, 384, (384, 14, 14)),
    ("ghostnet_050", 3, 64, 5_518, 20, (20, 8, 8)),
    # These cannot be cut.
    ("googlenet", None, 64, 5_599_904, 1024, (1024,)),
    ("maxvit_t", None, 224, 30_407_624, 512, (512,)),
    ("swin_t", None, 64, 27_519_354, 768, (768,)),
    ("vit_b_16", None, 224, 85_798_656, 768, (768,)),
    ("hrnet_w18_small", None, 64, 11_138_464, 2048, (2048,)),
]


@pytest.mark.parametrize(("name", "blocks", "size_px", "parameters", "width", "shape"), FAMILIES)
def test_every_family_whole_and_cut(
    name: str, blocks: int | None, size_px: int, parameters: int, width: int, shape: tuple[int, ...]
) -> None:
    # Counts and shapes need no numbers: on the meta device the largest network is built in a second.
    with torch.device("meta"):
        backbone = build_backbone(params(name, blocks=blocks, size_px=size_px))
        shapes = block_shapes(backbone)
    assert sum(p.numel() for p in backbone.module.parameters()) == parameters
    assert (backbone.width, shapes[-1], len(shapes)) == (width, shape, len(backbone.blocks))
    assert blocks is None or len(backbone.blocks) == blocks
    assert not backbone.module.training
    in_blocks = [parameter for block in backbone.blocks for parameter in block.parameters]
    assert sorted(in_blocks) == sorted(name for name, _ in backbone.module.named_parameters())
    assert len({block.name for block in backbone.blocks}) == len(backbone.blocks)


def test_torchvisions_regnets_too() -> None:
    # They round their widths with numbers, which the meta device has not.
    backbone = build_backbone(params("regnet_y_400mf", blocks=3))
    assert [block.name for block in backbone.blocks] == ["stem", "block1", "block2"]
    assert (backbone.width, block_shapes(backbone)[-1]) == (104, (104, 8, 8))
    assert sum(p.numel() for p in backbone.module.parameters()) == 113_264


def test_preprocessing_belongs_to_the_backbone() -> None:
    with torch.device("meta"):
        lite = build_backbone(params(BUNDLED, size_px=224)).preprocessing
        resnet = build_backbone(params("resnet18", size_px=224)).preprocessing
    assert (lite.resize_px, lite.mean, lite.interpolation) == (256, (0.5, 0.5, 0.5), "bicubic")
    assert (resnet.resize_px, resnet.mean, resnet.interpolation) == (256, (0.485, 0.456, 0.406), "bilinear")


@pytest.mark.parametrize(
    ("name", "blocks", "module"),
    [
        ("mobilenet_v3_small", 5, "features.4"),
        ("mobilenet_v2", 4, "features.3"),
        ("squeezenet1_1", 6, "features.5"),
        ("resnet18", 3, "layer2"),
        ("shufflenet_v2_x0_5", 2, "stage2"),
        ("mnasnet0_5", 9, "layers.8"),
        ("regnet_y_400mf", 3, "trunk_output.block2"),
        ("tf_efficientnet_lite0", 4, "blocks.4"),
        ("mobilenetv3_small_050", 4, "blocks.3"),
        ("densenet121", 2, "features.denseblock1"),
        ("convnext_atto", 2, "stages.1"),
        ("resnet10t", 2, "layer1"),
        ("test_vit", 3, "blocks.2"),
        ("swin_tiny_patch4_window7_224", 1, "layers.0"),
    ],
)
def test_a_cut_network_equals_the_whole_ones_intermediate_output(name: str, blocks: int, module: str) -> None:
    torch.manual_seed(0)
    if library_of(name) == "timm":
        whole = timm.create_model(name).eval()
        size_px = max(whole.pretrained_cfg["input_size"][-1] if hasattr(whole, "patch_embed") else 64, 64)
    else:
        whole, size_px = torchvision.models.get_model(name, weights=None).eval(), 64
    cut = build_backbone(params(name, blocks=blocks, size_px=size_px), blank=True)
    outputs: list[torch.Tensor] = []
    # A copy, since an activation that follows may write into its input.
    whole.get_submodule(module).register_forward_hook(lambda *call: outputs.append(call[2].clone()))
    images = torch.rand(2, 3, size_px, size_px)
    with torch.inference_mode():
        features = cut.module(images)
        whole.to(memory_format=torch.channels_last)(images)
    assert torch.equal(features, _mean_over_the_map(outputs[0], name))
    assert library_of(name) == "torchvision" or cut.blocks[-1].name == module


def _mean_over_the_map(output: torch.Tensor, name: str) -> torch.Tensor:
    if name.startswith("swin"):  # (B, H, W, C)
        return output.permute(0, 3, 1, 2).contiguous().mean(dim=(2, 3))
    if name.endswith("vit"):  # (B, 1 + H * W, C), the class token first
        batch, tokens, channels = output[:, 1:].shape
        side = round(tokens**0.5)
        return output[:, 1:].reshape(batch, side, side, channels).permute(0, 3, 1, 2).contiguous().mean(dim=(2, 3))
    return output.mean(dim=(2, 3))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "densenet121"])
def test_every_parameter_of_a_cut_network_is_used(name: str) -> None:
    module = build_backbone(params(name, blocks=2), blank=True).module
    module(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet18", r"resnet18 has 5 blocks \(stem, layer1, layer2, layer3, layer4\), got 6"),
        ("convnext_atto", r"convnext_atto has 5 blocks \(stages.0, stages.1, stages.2, stages.3, tail\), got 6"),
        ("crossvit_tiny_240", "crossvit_tiny_240 is one block and cannot be cut; write null"),
    ],
)
def test_a_wrong_number_of_blocks_is_one_sentence(name: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=r"^backbone\.blocks: " + complaint + "$"), torch.device("meta"):
        build_backbone(params(name, blocks=6))


def test_every_backbone_that_is_mentioned_can_be_built() -> None:
    known, mentioned = set(backbone_names()), set()
    for path in ("README.md", "params.yaml", "docs/exercise-cifar10.md"):
        found = set(re.findall(r"[a-z0-9_.]+", (ROOT / path).read_text(encoding="utf-8"))) & known
        assert found, path
        mentioned |= found
    # Those of FAMILIES are built above.
    with torch.device("meta"):
        for name in sorted(mentioned - {family[0] for family in FAMILIES}):
            assert build_backbone(params(name)).name == name


@pytest.mark.parametrize(
    ("name", "nearest"), [("resnet19", "resnet18"), ("mobilenetv3small", "mobilenet_v3_small"), ("?", BUNDLED)]
)
def test_an_unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(repr(name))}; did you mean .*{nearest}"):
        build_backbone(params(name))


def test_a_size_that_a_network_cannot_see_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.image_size_px: vit_tiny_patch16_224 cannot see images of 96 px"):
        build_backbone(params("vit_tiny_patch16_224", size_px=96))


def test_random_weights_are_the_same_whatever_the_number_of_threads() -> None:
    hashes, threads = set(), torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        hashes.add(module_sha256(build_backbone(params("mobilenet_v3_small")).module))
    torch.set_num_threads(threads)
    assert len(hashes) == 1


def test_random_weights_tell_images_apart() -> None:
    # Without statistics that fit them, all features of all images are nearly the same.
    images = torch.nn.functional.interpolate(torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(1)), 64)
    with torch.inference_mode():
        features = build_backbone(params("mobilenet_v3_small")).module(images)
    assert features.std(dim=0).mean() > 0.1 * features.abs().mean()
