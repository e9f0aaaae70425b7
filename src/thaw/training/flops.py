"""What training costs, in floating-point operations: a count that no busy machine changes.

Counted by torch's own counter (torch.utils.flop_counter), which knows matrix products and convolutions; what it leaves
out (activations, norms, the optimiser) is a few per cent of these networks.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from thaw.network.classifier import Classifier, set_trainable
from thaw.network.cut import require_cut
from thaw.params import Phase


@dataclass(frozen=True, kw_only=True)
class StepFlops:
    """Floating-point operations of one image."""

    forward: int

    backward: int
    """Gradients of what is trained alone: the more blocks are frozen, the less."""

    @property
    def training(self) -> int:
        """Of one image in one training step."""
        return self.forward + self.backward


def count_step_flops(forward: Callable[[Tensor], Tensor], inputs: Tensor) -> StepFlops:
    """Count one pass through a network and back; a multiplication and an addition are two operations.

    Args:
        forward: what is trained of it requires gradients; they are added to the parameters' own.
        inputs: one image, or one row of features: shape `(1, ...)`, float32.
    """
    backward = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with _unfused_attention(), FlopCounterMode(display=False, custom_mapping=backward) as counter:
        outputs = forward(inputs)
        forward_flops = counter.get_total_flops()
        outputs.sum().backward()
        return StepFlops(forward=forward_flops, backward=counter.get_total_flops() - forward_flops)


def _unfused_attention() -> AbstractContextManager[None]:
    """Attention as plain matrix products: the counter does not know each device's fused kernels."""
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context


def count_forward_flops(module: nn.Module, *, size_px: int) -> int:
    """Count one forward pass of an image of `size_px` x `size_px`."""
    device = next(module.parameters()).device
    with torch.inference_mode(), _unfused_attention(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, size_px, size_px, device=device))
    return int(counter.get_total_flops())


def _convolution_backward_flops(
    grad_shape: Sequence[int],
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *arguments: Any,
    out_shape: object,  # noqa: ARG001, the name that the counter calls it by
) -> int:
    """The gradients of inputs and of weights take as much as the forward pass, each of them that is asked for.

    torch's own formula leaves out the groups of a convolution, and so counts a depthwise one many times over.
    """
    *_, transposed, _output_padding, _groups, output_mask = arguments
    gradients: int = sum(output_mask[:2])
    return 2 * math.prod(input_shape if transposed else grad_shape) * math.prod(weight_shape[1:]) * gradients


def count_phase_flops(model: Classifier, phase: Phase) -> StepFlops:
    """Count what each epoch of a phase computes for one image: the head alone, or what lies above a cut, on features.

    Which parameters are trained is decided anew by the next phase; `model` is otherwise as before.
    """
    set_trainable(model, last_blocks=phase.last_blocks)
    was_training = model.training
    model.eval()
    device = model.head.weight.device
    side_px = model.preprocessing.image_size_px
    forward: nn.Module = model
    shape: tuple[int, ...] = (3, side_px, side_px)
    if phase.train == "head":
        forward, shape = model.head, (model.head.in_features,)
    elif phase.views is not None:
        cut = require_cut(model, phase, place="views")
        forward, shape = cut.above, cut.shape
    flops = count_step_flops(forward, torch.zeros(1, *shape, device=device))
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return flops
