"""A network that is not trained -> the same function of images in fewer passes over memory.

Folding BatchNorm into the convolution before it, and letting oneDNN apply the activation while a convolution's output
is still in the cache, changes no more than the last bits of the features; the tests say how many.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from timm.layers import BatchNormAct2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from thaw.compute.precision import compiled, in_precision
from thaw.params import ComputeParams

# Exactly these: a subclass may do more, as convolutions that standardise their weights do.
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
_ACTIVATIONS = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}
"""Activation -> its name and arguments in oneDNN's post-operations, as torch spells them."""


def fuse_for_inference(module: nn.Module, compute: ComputeParams, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The function that `module`, in eval mode, computes, as fast as `device` allows; `module` stays as it is.

    Returns:
        Images, shape `(B, 3, S, S)`, float32 -> what `module` makes of them, float32. Call it in inference mode.
    """
    folded = fold_batch_norm(module).to(device).to(memory_format=torch.channels_last)
    if compute.compile:
        # Frozen weights are laid out once, as the compiled code wants them.
        return in_precision(compiled(folded, freezing=True), compute, device)
    if device.type == "cpu" and compute.precision == "float32" and torch.backends.mkldnn.is_available():
        fuse_activations(folded)
    return in_precision(folded, compute, device)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy of `module`, in eval mode, with each BatchNorm that follows a convolution folded into it.

    A network whose data flow torch.fx cannot trace comes back unfolded: slower, and as right.
    (https://docs.pytorch.org/tutorials/intermediate/fx_conv_bn_fuser.html)
    """
    folded = copy.deepcopy(module)
    for convolution, norm in foldable_norms(folded):
        first, second = folded.get_submodule(convolution), folded.get_submodule(norm)
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.BatchNorm2d)
        folded.set_submodule(convolution, fuse_conv_bn_eval(first, second))
        folded.set_submodule(norm, second.act if isinstance(second, BatchNormAct2d) else nn.Identity())
    return folded


def foldable_norms(module: nn.Module) -> list[tuple[str, str]]:
    """The names of a convolution and of the BatchNorm that follows it, for all that `fold_batch_norm` folds."""
    return list(_neighbours(module, _CONVOLUTIONS, _NORMS))


def fuse_activations(module: nn.Module) -> None:
    """Let the convolutions of `module`, on the CPU, apply the activations that follow them, where oneDNN can."""
    for convolution, activation in _neighbours(module, _CONVOLUTIONS, tuple(_ACTIVATIONS)):
        first, second = module.get_submodule(convolution), module.get_submodule(activation)
        assert isinstance(first, nn.Conv2d)
        # With dilation, one more row above a kernel is more than one more above the maps.
        fits = not isinstance(first, Conv2dSame) or first.dilation == (1, 1)
        if fits and first.padding_mode == "zeros" and not isinstance(first.padding, str):
            module.set_submodule(convolution, _ActivatedConv2d(first, type(second)))
            module.set_submodule(activation, nn.Identity())


class _ActivatedConv2d(nn.Module):
    """A convolution and its activation in one pass, by the operator that torch.compile uses for it."""

    def __init__(self, convolution: nn.Conv2d, activation: type[nn.Module]) -> None:
        super().__init__()
        self.convolution = convolution
        self.activation = _ACTIVATIONS[activation]
        self.fitted_to: torch.Size | None = None

    def forward(self, maps: Tensor) -> Tensor:
        if maps.shape != self.fitted_to:
            self._fit(maps.shape)
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self.weight, self.convolution.bias, *self.geometry, *self.activation, ""
        )
        return made

    def _fit(self, shape: torch.Size) -> None:
        """Lay the weights out for maps of `shape`: which order of them is fast depends on it."""
        convolution, stride, dilation = self.convolution, list(self.convolution.stride), list(self.convolution.dilation)
        weight, padding = convolution.weight.detach(), list(convolution.padding)
        if isinstance(convolution, Conv2dSame):
            # TensorFlow's padding may have one more row below than above. torch would copy the maps to pad them; a
            # row of zeros above the kernel, and as many rows above the maps as below, give the same sums.
            sides = zip(shape[2:], convolution.kernel_size, stride, dilation, strict=True)
            totals = [get_same_padding(*side) for side in sides]
            padding = [total - total // 2 for total in totals]
            extra_rows, extra_columns = (total % 2 for total in totals)
            weight = nn.functional.pad(weight, (extra_columns, 0, extra_rows, 0))
        self.geometry = (padding, stride, dilation, convolution.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, list(shape))
        self.fitted_to = shape


class _Tracer(fx.Tracer):
    """Takes the layers that we look for as they are; all others it looks into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*_CONVOLUTIONS, *_NORMS)) or super().is_leaf_module(m, module_qualified_name)


def _neighbours(
    module: nn.Module, firsts: tuple[type[nn.Module], ...], seconds: tuple[type[nn.Module], ...]
) -> Iterator[tuple[str, str]]:
    """The names of layers, one of `firsts` and one of `seconds`, of which the second alone reads the first's output."""
    try:
        graph = _Tracer().trace(module)
    except (fx.proxy.TraceError, AttributeError, RuntimeError, TypeError, ValueError):
        # Code that looks into its tensors fails on a stand-in, each in its own way.
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    kinds = {name: type(layer) for name, layer in module.named_modules() if calls[name] == 1}
    for node in graph.nodes:
        reader = _only_reader(node, kinds)
        if reader is not None and kinds.get(str(node.target)) in firsts and kinds.get(str(reader.target)) in seconds:
            yield str(node.target), str(reader.target)


def _only_reader(node: fx.Node, kinds: dict[str, type[nn.Module]]) -> fx.Node | None:
    """What alone reads a node's output, if anything does; layers that do nothing are passed over."""
    while len(node.users) == 1:
        (node,) = node.users
        if kinds.get(str(node.target)) is not nn.Identity:
            return node
    return None
