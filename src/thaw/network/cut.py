"""A model in two parts: what lies below its last blocks, which can be computed once, and what is trained above them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, fx, nn

from thaw.errors import ConfigError
from thaw.network.classifier import Classifier, layer_groups
from thaw.params import TrainsPart

_UNTRACEABLE = (fx.proxy.TraceError, AttributeError, RuntimeError, TypeError, ValueError)
"""Code that looks into its tensors fails on a stand-in, each in its own way."""


@dataclass(frozen=True, kw_only=True)
class CutModel:
    """The two parts; they share all layers with the model, so that what trains one trains the other."""

    below: nn.Module
    """Images, shape `(B, 3, S, S)` -> maps at the cut, shape `(B, *shape)`, float32."""

    above: nn.Module
    """Maps at the cut -> logits, shape `(B, classes)`."""

    shape: tuple[int, ...]
    """Of the maps of one image."""


def cut_model(model: Classifier, *, last_blocks: int) -> CutModel | None:
    """Cut as far up as one tensor carries all that the head and the last so many blocks of the backbone read.

    Only modules that hold both what is trained and what is frozen are looked into, by torch.fx; all others are called
    as they are, in the mode that they are in then.

    Returns:
        None where nothing lies below, or where the code in between cannot be traced.
    """
    trained = frozenset(chain.from_iterable(layer_groups(model)[: 1 + last_blocks]))
    tracer = _Tracer(model, trained)
    try:
        graph = tracer.trace(model)
        with _other_mode(tracer.mixed):
            if str(tracer.trace(model)) != str(graph):
                return None  # a dropout, say, that would stay on or off as it was traced
    except _UNTRACEABLE:
        return None
    nodes = list(graph.nodes)
    first_trained = next(place for place, node in enumerate(nodes) if _tensors_of(model, node) & trained)
    for place in range(first_trained, 1, -1):
        crossing = [node for node in nodes[:place] if any(nodes.index(user) >= place for user in node.users)]
        if len(crossing) == 1:
            return _split(model, nodes, place, at=crossing[0])
    return None


class _Tracer(fx.Tracer):
    """Looks into modules that hold both trained and frozen parameters, and takes all others as they are."""

    def __init__(self, model: nn.Module, trained: frozenset[str]) -> None:
        super().__init__()
        self.mixed: list[nn.Module] = []
        """Into which it looks."""
        for prefix, module in model.named_modules():
            names = {f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters()}
            if names & trained and names - trained:
                self.mixed.append(module)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002, fx's names
        return not any(m is mixed for mixed in self.mixed)


@contextmanager
def _other_mode(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Training mode for what is in eval mode, and the other way round."""
    for module in modules:
        module.training = not module.training
    try:
        yield
    finally:
        for module in modules:
            module.training = not module.training


def _tensors_of(model: nn.Module, node: fx.Node) -> set[str]:
    """The names of the parameters that a step of the data flow uses."""
    target = str(node.target)
    if node.op == "call_module":
        return {f"{target}.{name}" for name, _ in model.get_submodule(target).named_parameters()}
    return {target} if node.op == "get_attr" else set()


def require_cut(model: Classifier, phase: TrainsPart, *, place: str) -> CutModel:
    """Cut the model below what a phase trains; ConfigError, which begins with `place`, if it cannot be."""
    assert phase.last_blocks is not None
    cut = cut_model(model, last_blocks=phase.last_blocks)
    if cut is None:
        raise ConfigError(
            f"{place}: this backbone has nothing below {phase.train} that can be computed once; remove views, or train "
            "fewer blocks"
        )
    return cut


def _split(model: Classifier, nodes: list[fx.Node], place: int, *, at: fx.Node) -> CutModel | None:
    """The steps before `place`, of whose values only that of `at` is read later, and those from there on."""
    if at.op == "placeholder":
        return None
    below, above = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes[:place]:
        copies[node] = below.node_copy(node, lambda other: copies[other])
    below.output(copies[at])
    copies = {at: above.placeholder("maps")}
    for node in nodes[place:]:
        copies[node] = above.node_copy(node, lambda other: copies[other])
    lower = fx.GraphModule(model, below)
    side_px = model.preprocessing.image_size_px
    with torch.inference_mode():
        maps = lower(torch.zeros(2, 3, side_px, side_px, device=model.head.weight.device))
    if not isinstance(maps, Tensor) or len(maps) != 2:
        return None
    return CutModel(below=lower, above=fx.GraphModule(model, above), shape=tuple(maps.shape[1:]))
