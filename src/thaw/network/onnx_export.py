"""A saved model as ONNX, and the export of a graph that there is none of yet."""

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from thaw.data.transforms import Preprocessing
from thaw.errors import DataError, one_line
from thaw.network.classifier import SavedModel, load_model
from thaw.network.deployable import CentreView, ViewClassifier, describe_view
from thaw.network.fusion import fold_batch_norm, foldable_norms
from thaw.network.model_card import read_model_card
from thaw.network.onnx_graph import Architecture, FoldedNorm, fill_graph, find_onnx, graph_file, serialise_graph
from thaw.paths import ONNX_GRAPHS
from thaw.utils.atomic import new_file
from thaw.utils.code_closure import closure_sha256

SCORES = ("probabilities", "logits")
"""The names of the outputs."""
MOST_DIFFERENCE = 1e-4
"""The largest difference from torch, of a probability, or of a logit relative to the largest one, that is let through;
float32 differs by some 1e-6."""


def onnx_model(folder: Path) -> onnx.ModelProto:
    """The network of a saved model as ONNX; see `onnx_graph.find_onnx`.

    The first time it meets an architecture this takes torch half a minute. A graph that does not compute what torch
    does is not kept.

    Raises:
        DataError: there is no such model, or its network cannot be written as ONNX.
    """
    file = graph_file(read_model_card(folder))
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        found = find_onnx(folder)
        if found is not None:
            return found
        saved = load_model(folder)
        name = saved.card.backbone.name
        try:
            exported = _export_architecture(saved)
        except Exception as error:  # the exporter raises whatever a network's code leads it to
            raise DataError(f"{folder}: its network, {name}, cannot be written as ONNX ({one_line(error)})") from error
        made = fill_graph(exported, folder)
        difference = _difference_from_torch(made, saved)
        if not difference <= MOST_DIFFERENCE:
            raise DataError(
                f"{folder}: as ONNX its network, {name}, computes something else, by {difference:.2g} where "
                f"{MOST_DIFFERENCE:g} is let through"
            )
        with new_file(file) as temporary:
            temporary.write_bytes(exported)
    return made


def with_preprocessing(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """The same network with the resize before it: input `images`, shape `(B, H, W, 3)`, uint8, of any size.

    That part is exported once for all networks that want their images alike.
    """
    facts = {"view": describe_view(preprocessing), "code": closure_sha256("network.onnx_export")}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    file = ONNX_GRAPHS / f"view-{preprocessing.image_size_px}px-{key[:16]}.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.is_file():
            example = torch.zeros(2, 50, 60, 3, dtype=torch.uint8)
            made = export_graph(CentreView(preprocessing), example, dynamic=[0, 1, 2], name="images")
            with new_file(file) as temporary:
                temporary.write_bytes(made.SerializeToString())
    view = onnx.load_model_from_string(file.read_bytes())
    _add_prefix(view.graph, "view_", but={"images", "views"})
    whole: onnx.ModelProto = onnx.compose.merge_models(view, model, io_map=[("views", "views")])
    onnx.helper.set_model_props(whole, {prop.key: prop.value for prop in model.metadata_props})
    return whole


def _add_prefix(graph: onnx.GraphProto, prefix: str, *, but: Set[str]) -> None:
    """Rename all values of a graph and of the branches in it; `onnx.compose.add_prefix` loses what branches take."""

    def rename(name: str) -> str:
        return name if name in but or not name else f"{prefix}{name}"

    del graph.value_info[:]
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = rename(value.name)
    for node in graph.node:
        node.name = rename(node.name)
        node.input[:] = map(rename, node.input)
        node.output[:] = map(rename, node.output)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _add_prefix(attribute.g, prefix, but=but)


def run_onnx(model: bytes, batches: Iterable[NDArray[np.uint8]]) -> list[list[NDArray[np.float32]]]:
    """For each batch, of images or views as the graph's only input wants them: probabilities and logits.

    Both have the shape `(B, classes)`.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (only_input,) = session.get_inputs()
    return [session.run(list(SCORES), {only_input.name: batch}) for batch in batches]


def largest_difference(scores: Sequence[NDArray[np.float32]], expected: Sequence[Tensor]) -> float:
    """Of probabilities, or of logits in units of the largest one, whichever differs more; NaN if anything is NaN."""
    probabilities, logits = (np.abs(a - b.numpy()).max() for a, b in zip(scores, expected, strict=True))
    return float(np.maximum(probabilities, logits / max(1.0, float(expected[1].abs().max()))))


def export_graph(module: nn.Module, example: Tensor, *, dynamic: Sequence[int], name: str) -> onnx.ModelProto:
    """Export a module with one input, `name`, whose axes `dynamic` may have any length."""
    log = logging.getLogger("onnxscript")
    level = log.level
    log.setLevel(logging.ERROR)
    outputs = list(SCORES) if isinstance(module, ViewClassifier) else ["views"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's own code
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=(dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC),),
                input_names=[name],
                output_names=outputs,
                verbose=False,
            )
    finally:
        log.setLevel(level)
    assert program is not None
    made: onnx.ModelProto = program.model_proto
    return made


def _export_architecture(saved: SavedModel) -> bytes:
    """The graph of an architecture with random weights: equal ones would be merged, and could not be filled."""
    classifier = copy.deepcopy(saved.classifier)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in classifier.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=generator)
    architecture = Architecture(
        tensors={name: tuple(tensor.shape) for name, tensor in classifier.state_dict().items()},
        folded=tuple(
            FoldedNorm(
                convolution=f"backbone.{convolution}", norm=f"backbone.{norm}", eps=_eps(classifier.backbone, norm)
            )
            for convolution, norm in foldable_norms(classifier.backbone)
        ),
        view=describe_view(classifier.preprocessing),
    )
    classifier.backbone = fold_batch_norm(classifier.backbone)
    size_px = classifier.preprocessing.image_size_px
    example = torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8)
    graph = export_graph(ViewClassifier(classifier, temperature=2.0), example, dynamic=[0], name="views")
    return serialise_graph(graph, architecture)


def _eps(backbone: nn.Module, name: str) -> float:
    norm = backbone.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    return norm.eps


def _difference_from_torch(model: onnx.ModelProto, saved: SavedModel) -> float:
    """On noise."""
    size_px = saved.classifier.preprocessing.image_size_px
    views = np.random.default_rng(0).integers(0, 256, (4, size_px, size_px, 3), np.uint8)
    network = ViewClassifier(saved.classifier, temperature=saved.card.temperature).eval()
    with torch.inference_mode():
        expected = network(torch.from_numpy(views))
    (scores,) = run_onnx(model.SerializeToString(), [views])
    return largest_difference(scores, expected)
