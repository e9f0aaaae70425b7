"""What a phase costs, against counts worked out by hand; and counting changes nothing.

Run with: pytest tests/training/test_flops.py
"""

import copy

import pytest
import torch
from torch import nn

from conftest import TINY_BACKBONE
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier, set_trainable
from thaw.network.cut import require_cut
from thaw.params import Phase
from thaw.training.flops import StepFlops, count_forward_flops, count_phase_flops, count_step_flops

FIRST = 2 * (8 * 8) * 4 * (3 * 3 * 3)
"""A 3 x 3 convolution of 3 channels to 4, on 8 x 8 pixels: a product and a sum for each weight and pixel."""
DEPTHWISE = 2 * (4 * 4) * 4 * (3 * 3)
"""3 x 3 over each of 4 channels by itself, with stride 2."""
LINEAR = 2 * (4 * 4 * 4) * 5
IMAGE = torch.zeros(1, 3, 8, 8)


def build_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
    ).eval()


def build_model() -> Classifier:
    backbone = build_backbone(TINY_BACKBONE.model_copy(update={"blocks": 3}))
    return Classifier(backbone, classes=("Cat", "Dog"), seed=0)


def count(train: str) -> StepFlops:
    return count_phase_flops(build_model(), Phase(train=train, epochs=1, lr=0.1))


def test_a_network_that_is_trained_whole_by_hand() -> None:
    counted = count_step_flops(build_net(), IMAGE)
    assert counted.forward == FIRST + DEPTHWISE + LINEAR
    # The gradients of weights and of inputs, but for those of the image, which nobody needs.
    assert counted.backward == FIRST + 2 * DEPTHWISE + 2 * LINEAR
    assert counted.training == counted.forward + counted.backward


def test_what_is_frozen_has_no_gradients() -> None:
    net = build_net()
    net[0].requires_grad_(False)
    net[1].requires_grad_(False)
    counted = count_step_flops(net, IMAGE)
    assert counted == StepFlops(forward=FIRST + DEPTHWISE + LINEAR, backward=DEPTHWISE + 2 * LINEAR)
    net[2].requires_grad_(False)
    assert count_step_flops(net, IMAGE).backward == LINEAR


def test_a_transposed_convolution_by_hand() -> None:
    counted = count_step_flops(nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2)), IMAGE)
    assert counted == StepFlops(forward=2 * 64 * 3 * 4 * 2 * 2, backward=2 * 64 * 3 * 4 * 2 * 2)


def test_a_forward_pass_alone_is_the_forward_pass_of_a_step() -> None:
    model = build_model()
    assert count_forward_flops(model.eval(), size_px=32) == count("all").forward


def test_a_head_phase_counts_the_head_alone() -> None:
    width, classes = build_model().head.in_features, 2
    assert count("head") == StepFlops(forward=2 * width * classes, backward=2 * width * classes)


def test_the_fewer_blocks_are_trained_the_less_it_costs() -> None:
    parts = ["last:1", "last:2", "all"]
    counts = [count(train) for train in parts]
    assert len({counted.forward for counted in counts}) == 1
    backward = [counted.backward for counted in counts]
    assert backward == sorted(set(backward))
    assert count("last:3") == count("all")


@pytest.mark.parametrize("train", ["last:1", "last:2"])
def test_above_a_cut_there_is_what_does_not_lie_below(train: str) -> None:
    phase, model = Phase(train=train, epochs=1, lr=0.1), build_model()
    above, cut = count_phase_flops(model, phase.model_copy(update={"views": 2})), require_cut(model, phase, place="")
    below = count_forward_flops(cut.below, size_px=32)
    assert 0 < below < count(train).forward
    assert above == StepFlops(forward=count(train).forward - below, backward=count(train).backward)


@pytest.mark.parametrize("train", ["head", "last:1", "all"])
@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_model_as_it_was(train: str, training: bool) -> None:
    model = build_model().train(training)
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    phase = Phase(train=train, epochs=1, lr=0.1)
    trained = {name for name, _ in set_trainable(model, last_blocks=phase.last_blocks)}
    count_phase_flops(model, phase)
    assert {module.training for module in model.modules()} == {training}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trained
    assert torch.equal(torch.get_rng_state(), random_state)
