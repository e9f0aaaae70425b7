"""A model in two parts: together they are the model to the bit, and what is trained lies above.

Run with: pytest tests/network/test_cut.py
"""

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from conftest import TINY_BACKBONE
from thaw.errors import ConfigError
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier, set_trainable
from thaw.network.cut import cut_model, require_cut
from thaw.params import BackboneParams, Phase


def build(name: str, *, blocks: int | None = None, size_px: int = 64) -> Classifier:
    params = BackboneParams(name=name, weights="none", blocks=blocks, image_size_px=size_px)
    return Classifier(build_backbone(params, blank=True), classes=("Cat", "Dog"), seed=0).eval()


@pytest.mark.parametrize(
    ("name", "blocks", "last_blocks", "shape"),
    [
        ("tf_efficientnet_lite0", None, 2, (112, 4, 4)),
        ("tf_efficientnet_lite0", 4, 1, (40, 8, 8)),
        ("resnet18", None, 1, (256, 4, 4)),
        ("mobilenet_v3_small", 5, 3, (16, 16, 16)),
        # A ReLU has nothing to train: the head alone does.
        ("vgg11", 2, 1, (64,)),
    ],
)
def test_the_parts_are_the_model_to_the_bit(name: str, blocks: int | None, last_blocks: int, shape: object) -> None:
    model = build(name, blocks=blocks)
    trained = {id(parameter) for _, parameter in set_trainable(model, last_blocks=last_blocks)}
    cut = cut_model(model, last_blocks=last_blocks)
    assert cut is not None
    assert cut.shape == shape
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = images.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(cut.above(cut.below(images)), model(images))
    assert {id(parameter) for parameter in cut.above.parameters()} == trained
    assert not {id(parameter) for parameter in cut.below.parameters()} & trained


def test_cutting_leaves_the_model_as_it_was() -> None:
    model = build("mobilenet_v3_small", blocks=3)
    model.head.train()
    before = [module.training for module in model.modules()]
    assert cut_model(model, last_blocks=1) is not None
    assert [module.training for module in model.modules()] == before


class _DropsOut(nn.Module):
    """A backbone that drops out between its blocks, by a function that no mode of a layer reaches."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.blocks = backbone.get_submodule("blocks")

    def forward(self, images: Tensor) -> Tensor:
        first, second = self.blocks.children()
        return nn.functional.dropout(second(first(images)), training=self.training).mean(dim=(2, 3))


def test_what_would_keep_the_mode_it_was_traced_in_is_not_cut() -> None:
    backbone = build_backbone(TINY_BACKBONE)
    model = Classifier(replace(backbone, module=_DropsOut(backbone.module)), classes=("Cat", "Dog"), seed=0)
    assert cut_model(model, last_blocks=1) is None


@pytest.mark.parametrize(
    ("name", "blocks", "train"), [("mobilenet_v3_small", 2, "last:2"), ("vit_b_16", None, "last:1")]
)
def test_where_nothing_lies_below_it_is_one_sentence(name: str, blocks: int | None, train: str) -> None:
    model = build(name, blocks=blocks, size_px=224 if name.startswith("vit") else 64)
    message = (
        f"variants.tiny.0.views: this backbone has nothing below {train} that can be computed once; remove views, or "
        "train fewer blocks"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        require_cut(model, Phase(train=train, epochs=1, lr=0.1, views=2), place="variants.tiny.0.views")
