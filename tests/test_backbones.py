"""Backbones: the right weights, widths and preprocessing, or one sentence that says what is wrong."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from thaw.backbones import EMBEDDED, build_backbone
from thaw.errors import ConfigError
from thaw.params import BackboneParams


def params(name: str, *, weights: str = "none", blocks: int | None = None, size_px: int = 64) -> BackboneParams:
    return BackboneParams(name=name, weights=weights, blocks=blocks, image_size_px=size_px)


@pytest.mark.parametrize(
    ("name", "width", "parameters"),
    [
        ("tf_efficientnet_lite0", 1280, 3_371_008),
        ("resnet18", 512, 11_176_512),
        ("resnet50", 2048, 23_508_032),
        ("mobilenet_v2", 1280, 2_223_872),
        ("mobilenet_v3_small", 576, 927_008),
    ],
)
def test_widths_and_parameter_counts(name: str, width: int, parameters: int) -> None:
    backbone = build_backbone(params(name))
    assert backbone.width == width
    assert sum(p.numel() for p in backbone.module.parameters()) == parameters
    assert not backbone.module.training


@pytest.mark.parametrize("blocks", [None, 3])
@pytest.mark.parametrize("name", [EMBEDDED, "resnet18", "mobilenet_v3_small", "densenet121", "convnext_atto"])
def test_each_parameter_is_in_exactly_one_block(name: str, blocks: int | None) -> None:
    backbone = build_backbone(params(name, blocks=blocks))
    in_blocks = [parameter for block in backbone.blocks for parameter in block.parameters]
    assert sorted(in_blocks) == sorted(name for name, _ in backbone.module.named_parameters())
    assert len({block.name for block in backbone.blocks}) == len(backbone.blocks)
    assert blocks is None or len(backbone.blocks) == blocks


def test_the_embedded_weights_are_imagenets() -> None:
    # The pretrained network knows a drawing of nothing from a drawing of something: features differ, and are not those
    # of random weights, which at this depth hardly depend on the picture.
    backbone = build_backbone(params(EMBEDDED, weights="imagenet"))
    assert len(backbone.module.state_dict()) == 294  # 296 less the classifier's two
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    with torch.inference_mode():
        features = backbone.module(pictures)
    assert features.shape == (2, 1280)
    assert torch.nn.functional.cosine_similarity(features[0], features[1], dim=0) < 0.99


def test_preprocessing_belongs_to_the_backbone() -> None:
    lite = build_backbone(params(EMBEDDED, size_px=224)).preprocessing
    resnet = build_backbone(params("resnet18", size_px=224)).preprocessing
    assert (lite.resize_px, lite.mean, lite.interpolation) == (256, (0.5, 0.5, 0.5), "bicubic")
    assert (resnet.resize_px, resnet.mean, resnet.interpolation) == (256, (0.485, 0.456, 0.406), "bilinear")


def test_a_cut_network_equals_the_whole_ones_intermediate_output() -> None:
    torch.manual_seed(0)
    whole = torchvision.models.get_model("mobilenet_v3_small", weights=None).eval()
    cut = build_backbone(params("mobilenet_v3_small", blocks=5))
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        maps = whole.features[:5](pictures.contiguous(memory_format=torch.channels_last))
        assert torch.equal(cut.module(pictures), maps.mean(dim=(2, 3)))
    assert cut.width == 40


def test_too_many_blocks_says_how_many_there_are() -> None:
    with pytest.raises(ConfigError, match=r"resnet18 has 5 blocks \(stem, layer1, layer2, layer3, layer4\), got 6"):
        build_backbone(params("resnet18", blocks=6))


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="'resnet19'"):
        build_backbone(params("resnet19"))


def test_a_weights_file_is_loaded_and_its_classifier_may_be_missing(tmp_path: Path) -> None:
    network = torchvision.models.get_model("mobilenet_v2", weights=None)
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors"):
        if path.suffix == ".pth":
            torch.save(state, path)
        else:
            save_file(state, path)
        backbone = build_backbone(params("mobilenet_v2", weights=str(path)))
        assert torch.equal(backbone.module.state_dict()["blocks.features_0.0.weight"], state["features.0.0.weight"])


def test_a_weights_file_of_another_network_names_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torchvision.models.get_model("mobilenet_v2", weights=None).state_dict(), path)
    with pytest.raises(
        ConfigError, match=r"does not fit resnet18: \d+ missing \(conv1.weight, .*unexpected \(features"
    ):
        build_backbone(params("resnet18", weights=str(path)))


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_a_file_that_is_no_weights_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a weights file") as caught:
        build_backbone(params("resnet18", weights=str(path)))
    assert "\n" not in str(caught.value)


def test_a_missing_weights_file_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"there is no file nowhere\.pth"):
        build_backbone(params("resnet18", weights="nowhere.pth"))


def test_a_weights_file_with_another_head_is_welcome(tmp_path: Path) -> None:
    path = tmp_path / "two_classes.pth"
    torch.save(torchvision.models.get_model("resnet18", weights=None, num_classes=2).state_dict(), path)
    assert build_backbone(params("resnet18", weights=str(path))).width == 512


def test_a_size_that_a_network_cannot_see_is_one_sentence() -> None:
    with pytest.raises(
        ConfigError, match=r"backbone\.image_size_px: vit_tiny_patch16_224 cannot see pictures of 96 px"
    ):
        build_backbone(params("vit_tiny_patch16_224", size_px=96))


def test_networks_that_are_no_chain_of_blocks_come_from_timm() -> None:
    assert build_backbone(params("densenet121")).width == 1024
