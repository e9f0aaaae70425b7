"""The classifier: what is trainable, what moved, and saving and loading without a change of a bit.

Run with `pytest tests/network/test_classifier.py`.
"""

from pathlib import Path

import pytest
import torch

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING
from thaw.errors import ConfigError, DataError
from thaw.network.backbones import build_backbone
from thaw.network.classifier import (
    Classifier,
    backbone_tensors_moved,
    layer_groups,
    load_model,
    module_sha256,
    require_blocks,
    save_model,
    set_trainable,
)
from thaw.network.model_card import BestEpoch, Candidate, Compute, ModelCard
from thaw.params import BackboneParams, Phase, SolvedPhase


def card(*, classes: tuple[str, ...] = ("Cat", "Dog"), backbone: BackboneParams = TINY_BACKBONE) -> ModelCard:
    """The card of a model whose head was solved."""
    best = BestEpoch(phase=0, epoch=1)
    phases = (SolvedPhase(),)
    return ModelCard(
        classes=classes,
        variant="frozen",
        seed=0,
        backbone=backbone,
        storage=TINY_STORAGE,
        val="fixed",
        training=TINY_TRAINING,
        phases=phases,
        best=best,
        candidates=(Candidate(phases=phases, val_loss=0.5, val_accuracy=0.75, best=best),),
        compute=Compute(flops=1, images_seen=0),
        trainable_parameters=2,
    )


def build(seed: int = 0) -> Classifier:
    return Classifier(build_backbone(TINY_BACKBONE), classes=("Cat", "Dog"), seed=seed)


def test_every_parameter_is_covered_by_the_rule() -> None:
    model = build()
    assert [name for name, _ in set_trainable(model, last_blocks=0)] == ["head.weight", "head.bias"]
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert len(set_trainable(model, last_blocks=None)) == len(list(model.parameters()))


def test_refreezing_forgets_gradients_so_that_adamw_moves_nothing() -> None:
    model = build()
    set_trainable(model, last_blocks=None)
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    set_trainable(model, last_blocks=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_head_depends_on_the_seed_alone() -> None:
    first = build(seed=0).head.weight
    torch.rand(5)
    assert torch.equal(first, build(seed=0).head.weight)
    assert not torch.equal(first, build(seed=1).head.weight)


def test_a_saved_model_predicts_the_same(tmp_path: Path) -> None:
    model = build().eval()
    save_model(tmp_path, model, card=card())
    saved = load_model(tmp_path)
    loaded = saved.classifier
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(images), loaded(images))
    assert loaded.classes == ("Cat", "Dog")
    assert loaded.preprocessing == model.preprocessing
    assert not loaded.training
    assert saved.card == card()


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        save_model(folder, build(), card=card())
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("change", ["weight", "buffer", "sign of zero"])
def test_a_single_bit_counts_as_moved(change: str) -> None:
    pretrained, model = build_backbone(TINY_BACKBONE), build()
    assert backbone_tensors_moved(model, pretrained) == 0
    before = module_sha256(pretrained.module)
    with torch.no_grad():
        if change == "weight":
            weight = pretrained.module.state_dict()["blocks.features_0.0.weight"]
            weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
        else:
            buffer = dict(pretrained.module.named_buffers())["blocks.features_0.1.running_mean"]
            buffer[0] = 1e-30 if change == "buffer" else -0.0
    assert backbone_tensors_moved(model, pretrained) == 1
    assert module_sha256(pretrained.module) != before


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_damaged_model_is_one_sentence(tmp_path: Path, name: str) -> None:
    save_model(tmp_path, build(), card=card())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:50])
    with pytest.raises(DataError, match="holds no whole model") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_tensors_that_do_not_fit_the_card_are_one_sentence(tmp_path: Path) -> None:
    save_model(tmp_path, build(), card=card(classes=("Cat", "Dog", "Emu")))
    with pytest.raises(DataError, match="holds no whole model") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("train", "trained"), [("head", 1), ("last:1", 2), ("last:2", 3), ("all", 3)])
def test_a_phase_trains_the_head_and_the_last_blocks(train: str, trained: int) -> None:
    model, phase = build(), Phase(train=train, epochs=1, lr=0.1)
    require_blocks(model, phase, place="variants.tiny.0")
    names = {name for name, _ in set_trainable(model, last_blocks=phase.last_blocks)}
    assert names == {name for group in layer_groups(model)[:trained] for name in group}


def test_more_blocks_than_there_are_is_one_sentence() -> None:
    with pytest.raises(
        ConfigError, match=r"^variants\.tiny\.0: last:3 asks for more .* has, 2 .* write last:2 or less"
    ):
        require_blocks(build(), Phase(train="last:3", epochs=1, lr=0.1), place="variants.tiny.0")


def test_a_missing_model_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name a folder that the train stage wrote"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet18", None),
        ("resnet50", None),
        ("resnet18", 2),
        ("shufflenet_v2_x0_5", 3),
        ("tf_efficientnet_lite0", 3),
        ("convnext_atto", 2),
        ("densenet121", 2),
    ],
)
def test_a_network_trains_a_step_saves_and_loads_the_same(tmp_path: Path, name: str, blocks: int | None) -> None:
    params = BackboneParams(name=name, weights="none", blocks=blocks, image_size_px=32)
    model = Classifier(build_backbone(params), classes=("a", "b", "c"), seed=0)
    optimizer = torch.optim.SGD([p for _, p in set_trainable(model, last_blocks=None)], lr=0.01)
    images = torch.rand(2, 3, 32, 32)
    before = model.head.weight.clone()
    torch.nn.functional.cross_entropy(model(images), torch.tensor([0, 2])).backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, before)
    save_model(tmp_path, model, card=card(classes=("a", "b", "c"), backbone=params))
    with torch.inference_mode():
        assert torch.equal(model.eval()(images), load_model(tmp_path).classifier(images))
