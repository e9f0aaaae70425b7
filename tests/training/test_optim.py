"""How a phase learns, against values worked out by hand: losses, optimisers, learning rates, what stays frozen.

Run with: pytest tests/training/test_optim.py
"""

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from conftest import TINY_BACKBONE, TINY_TRAINING
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import AdamWParams, OptimizerParams, Phase, SGDParams, TrainingParams
from thaw.training.optim import (
    build_optimizer,
    count_correct,
    count_steps,
    cross_entropy,
    images_in_step,
    set_mode,
    warmup_cosine,
    weigh_classes,
)

BLOCKS = 3


def build_model() -> Classifier:
    backbone = build_backbone(TINY_BACKBONE.model_copy(update={"blocks": BLOCKS}))
    return Classifier(backbone, classes=("Cat", "Dog"), seed=0)


def phase(train: str) -> Phase:
    return Phase(train=train, epochs=1, lr=0.1)


def training(**changes: object) -> TrainingParams:
    return TINY_TRAINING.model_copy(update=changes)


def learn_once(model: Classifier, optimizer: torch.optim.Optimizer) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    cross_entropy(model(images), torch.tensor([0, 1, 1, 0]), class_weights=None).backward()
    optimizer.step()


def name_of(model: Classifier, tensor: Tensor) -> str:
    return next(name for name, parameter in model.named_parameters() if parameter is tensor)


@pytest.mark.parametrize("optimizer", [AdamWParams(), SGDParams()])
@pytest.mark.parametrize("train", ["head", "last:1", "last:2", f"last:{BLOCKS}", "all"])
def test_only_what_is_trained_gets_an_optimiser_state(train: str, optimizer: OptimizerParams) -> None:
    model = build_model()
    built = build_optimizer(model, phase(train), training(optimizer=optimizer))
    learn_once(model, built)
    thawed = {"head": 0, "last:1": 1, "last:2": 2}.get(train, BLOCKS)
    starts = ("head.", *(f"backbone.blocks.features_{block}." for block in range(BLOCKS - thawed, BLOCKS)))
    expected = {name for name, _ in model.named_parameters() if name.startswith(starts)}
    assert {name_of(model, tensor) for tensor in built.state} == expected


@pytest.mark.parametrize("batch_norm", ["frozen_stats", "train"])
def test_the_last_blocks_move_and_what_lies_below_keeps_every_bit(batch_norm: str) -> None:
    model = build_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    params = training(batch_norm=batch_norm, optimizer=AdamWParams(weight_decay=0.5))
    optimizer = build_optimizer(model, phase("last:1"), params)
    set_mode(model, phase("last:1"), params)
    learn_once(model, optimizer)
    for name, tensor in model.state_dict().items():
        thawed = name.startswith(("head.", "backbone.blocks.features_2."))
        is_statistic = "running" in name or "tracked" in name
        moves = thawed and (batch_norm == "train" or not is_statistic)
        assert torch.equal(tensor, before[name]) != moves, name


def test_nothing_is_recorded_for_a_backward_pass_below_the_cut() -> None:
    model = build_model()
    build_optimizer(model, phase("last:1"), TINY_TRAINING)
    recorded: dict[str, bool] = {}
    for name, block in model.backbone.get_submodule("blocks").named_children():
        block.register_forward_hook(lambda _, __, made, name=name: recorded.update({name: made.requires_grad}))
    model(torch.rand(2, 3, 32, 32))
    assert recorded == {"features_0": False, "features_1": False, "features_2": True}


def test_dropout_below_the_cut_is_off_and_above_it_on() -> None:
    model = build_model()
    blocks = model.backbone.get_submodule("blocks")
    for block in blocks.children():
        block.add_module("dropout", nn.Dropout())
    build_optimizer(model, phase("last:1"), TINY_TRAINING)
    set_mode(model, phase("last:1"), TINY_TRAINING)
    assert [block.get_submodule("dropout").training for block in blocks.children()] == [False, False, True]


@pytest.mark.parametrize("optimizer", [AdamWParams(weight_decay=0.3), SGDParams(weight_decay=0.3)])
def test_norms_and_biases_do_not_decay_and_all_else_does(optimizer: OptimizerParams) -> None:
    model = build_model()
    params = training(optimizer=optimizer)
    decays = {
        name_of(model, tensor): group["weight_decay"]
        for group in build_optimizer(model, phase("all"), params).param_groups
        for tensor in group["params"]
    }
    assert decays.keys() == dict(model.named_parameters()).keys()
    norms = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) > 3
    for name, decay in decays.items():
        assert decay == (0.0 if name in norms or name.endswith(".bias") else 0.3), name


def test_the_head_learns_fastest_and_each_block_at_its_share_of_the_one_above() -> None:
    model = build_model()
    optimizer = build_optimizer(model, phase("all"), training(layer_decay=0.5))
    rates = {name_of(model, t): group["lr"] for group in optimizer.param_groups for t in group["params"]}
    for name, rate in rates.items():
        block = name.split(".")[2] if name.startswith("backbone.") else "head"
        assert rate == {"head": 0.1, "features_2": 0.05, "features_1": 0.025, "features_0": 0.0125}[block], name
    assert optimizer.param_groups[0]["params"] == [model.head.weight]


@pytest.mark.parametrize("optimizer", [AdamWParams(), SGDParams()])
def test_the_rate_of_the_head_reaches_the_head_alone(optimizer: OptimizerParams) -> None:
    model = build_model()
    phase = Phase(train="all", epochs=1, lr=0.1, head_lr=3.0)
    groups = build_optimizer(model, phase, training(optimizer=optimizer, layer_decay=0.5)).param_groups
    rates = {name_of(model, tensor): group["lr"] for group in groups for tensor in group["params"]}
    assert {rates.pop("head.weight"), rates.pop("head.bias")} == {3.0}
    assert set(rates.values()) == {0.05, 0.025, 0.0125}
    assert groups[0]["params"] == [model.head.weight]
    assert groups[0]["lr"] == 3.0


def test_blocks_learn_at_one_rate_unless_a_decay_is_asked_for() -> None:
    optimizer = build_optimizer(build_model(), phase("all"), TINY_TRAINING)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}


@pytest.mark.parametrize(("nesterov", "second_step"), [(False, 1.9), (True, 2.71)])
def test_sgd_by_hand(nesterov: bool, second_step: float) -> None:
    # A gradient of 1 twice, momentum 0.9: velocities 1 and 1.9; Nesterov steps by gradient + 0.9 x velocity.
    model = build_model()
    nn.init.zeros_(model.head.bias)
    optimizer = build_optimizer(model, phase("head"), training(optimizer=SGDParams(nesterov=nesterov)))
    moved = []
    for _ in range(2):
        before = model.head.bias.detach().clone()
        model.head.bias.grad = torch.ones(2)
        optimizer.step()
        moved.append((before - model.head.bias.detach())[0].item())
    assert moved == pytest.approx([0.19 if nesterov else 0.1, 0.1 * second_step], rel=1e-5)


def test_label_smoothing_by_hand() -> None:
    # Probabilities 3/4 and 1/4; smoothing 0.2 makes the target 0.9 and 0.1.
    logits = torch.tensor([[math.log(3.0), 0.0]])
    loss = cross_entropy(logits, torch.tensor([0]), class_weights=None, label_smoothing=0.2)
    assert loss.item() == pytest.approx(-(0.9 * math.log(0.75) + 0.1 * math.log(0.25)))
    shares = cross_entropy(logits, torch.tensor([[1.0, 0.0]]), class_weights=None, label_smoothing=0.2)
    assert shares.item() == pytest.approx(loss.item())


def test_class_weights_are_sklearns() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    weights = weigh_classes(labels, classes=3, params=training(class_weights="balanced"))
    assert weights is not None
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert weights[labels].mean() == pytest.approx(1.0)
    assert weigh_classes(labels, classes=3, params=training()) is None
    absent = weigh_classes(labels, classes=4, params=training(class_weights="balanced"))
    assert absent is not None
    np.testing.assert_allclose(absent, [*weights, 0.0])


def test_balanced_weights_make_the_loss_the_mean_over_classes() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    weights = weigh_classes(labels.numpy(), classes=2, params=training(class_weights="balanced"))
    assert weights is not None
    loss = cross_entropy(logits, labels, class_weights=torch.from_numpy(weights).float())
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    assert loss.item() == pytest.approx((losses[:3].mean() + losses[3]).item() / 2)
    shares = cross_entropy(
        logits, nn.functional.one_hot(labels, 2).float(), class_weights=torch.from_numpy(weights).float()
    )
    assert shares.item() == pytest.approx(loss.item())


def test_weighted_batches_add_up_to_the_whole() -> None:
    labels = torch.tensor([0] * 9 + [1] * 3)
    logits = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([2 / 3, 2.0])
    parts = [cross_entropy(logits[i : i + 4], labels[i : i + 4], class_weights=weights) for i in (0, 4, 8)]
    assert torch.stack(parts).mean().item() == pytest.approx(
        cross_entropy(logits, labels, class_weights=weights).item()
    )


def test_hits_count_the_class_with_the_larger_share() -> None:
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    assert count_correct(logits, torch.tensor([0, 1, 1])) == 2
    assert count_correct(logits, torch.tensor([[0.4, 0.6], [0.4, 0.6], [0.3, 0.7]])) == 1


def test_the_rate_climbs_then_falls_along_half_a_cosine() -> None:
    factor = warmup_cosine(20, warmup_ratio=0.2)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factor(12) == pytest.approx(0.5)
    assert factor(19) == pytest.approx(0.5 * (1 + math.cos(math.pi * 15 / 16)))
    assert warmup_cosine(20, warmup_ratio=0.0)(0) == 1.0


@pytest.mark.parametrize(("images", "per_step"), [(24, [12] * 6), (17, [12, 12, 12, 5, 5]), (9, [9, 9, 9])])
def test_batches_share_their_step_with_the_images_of_their_group(images: int, per_step: list[int]) -> None:
    params = training(batch_size=4, grad_accum_steps=3)
    batches = range(math.ceil(images / 4))
    assert [images_in_step(batch, images=images, params=params) for batch in batches] == per_step
    assert count_steps(phase("all"), images=images, params=params) == math.ceil(images / 12)
