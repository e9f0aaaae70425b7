"""A saved model -> an ONNX graph, by filling the weights into a graph of its architecture that was exported before.

Exporting takes torch half a minute, filling takes milliseconds, and no torch. Exported graphs are kept in `.thaw/onnx`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from thaw.network.model_card import ModelCard, read_model_card
from thaw.network.model_folder import TENSORS, refuse_model_folder
from thaw.paths import ONNX_GRAPHS
from thaw.utils.atomic import new_file
from thaw.utils.code_closure import closure_sha256
from thaw.utils.records import Record

TEMPERATURE = "temperature"
"""The initializer that the logits are divided by."""
_FOLDED = "folded"


class FoldedNorm(Record):
    """A BatchNorm that the graph does not have, since it was folded into the convolution before it."""

    convolution: str
    norm: str
    eps: float


def graph_file(card: ModelCard) -> Path:
    """Where the exported graph of a model's architecture is kept; another library or other code makes another one."""
    facts = {
        "backbone": card.backbone.model_dump(mode="json", include={"name", "blocks", "image_size_px"}),
        "classes": len(card.classes),
        "code": closure_sha256("network.onnx_export"),
        "libraries": [version(name) for name in ("onnx", "onnxscript")],
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return ONNX_GRAPHS / f"{card.backbone.name}-{card.backbone.image_size_px}px-{key[:16]}.onnx"


def write_graph(path: Path, graph: onnx.ModelProto, *, folded: Sequence[FoldedNorm], view: Mapping[str, Any]) -> None:
    """Keep an exported graph, which layers it does not have, and how its views are cut."""
    facts = {_FOLDED: [norm.model_dump() for norm in folded], "view": view}
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in facts.items()})
    with new_file(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())


def describe(card: ModelCard, *, view: Mapping[str, Any]) -> dict[str, str]:
    """What an exported model says of itself, in any format: text, and JSON where it is more than a word."""
    return {
        "classes": json.dumps(card.classes, ensure_ascii=False),
        "preprocessing": json.dumps({"storage": card.storage.model_dump(), "view": view}),
        "temperature": repr(card.temperature),
        "backbone": card.backbone.name,
        "variant": card.variant,
        "seed": str(card.seed),
    }


def find_onnx(folder: Path) -> onnx.ModelProto | None:
    """The network of a saved model as ONNX, or None if no graph of its architecture was exported yet.

    Input `views`: shape `(B, S, S, 3)`, uint8. Outputs `probabilities` and `logits`: shape `(B, classes)`, float32.
    `network.onnx_export.onnx_model` exports what is missing.

    Raises:
        DataError: there is no such model, or its tensors do not fit its description.
    """
    card = read_model_card(folder)
    kept = graph_file(card)
    if not kept.is_file():
        return None
    graph = onnx.load_model_from_string(kept.read_bytes())
    facts = {prop.key: json.loads(prop.value) for prop in graph.metadata_props}
    folded = [FoldedNorm.model_validate(norm) for norm in facts[_FOLDED]]
    onnx.helper.set_model_props(graph, describe(card, view=facts["view"]))
    try:
        tensors = load_file(folder / TENSORS)
        _fill(graph, _fold(tensors, folded) | {TEMPERATURE: np.float32(card.temperature)})
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise refuse_model_folder(folder, error) from None
    return graph


def _fold(
    tensors: Mapping[str, NDArray[np.float32]], folded: Sequence[FoldedNorm]
) -> dict[str, NDArray[np.float32] | np.float32]:
    """Tensors of a model with each BatchNorm in the convolution before it, computed in float64."""
    result: dict[str, NDArray[np.float32] | np.float32] = dict(tensors)
    for layer in folded:
        norm = {
            key: tensors[f"{layer.norm}.{key}"].astype(np.float64)
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        scale = norm["weight"] / np.sqrt(norm["running_var"] + layer.eps)  # (channels,)
        weight = tensors[f"{layer.convolution}.weight"]  # (channels, inputs, height, width)
        bias = tensors.get(f"{layer.convolution}.bias", 0.0) - norm["running_mean"]
        result[f"{layer.convolution}.weight"] = (weight * scale[:, None, None, None]).astype(np.float32)
        result[f"{layer.convolution}.bias"] = (bias * scale + norm["bias"]).astype(np.float32)
    return result


def _fill(graph: onnx.ModelProto, tensors: Mapping[str, NDArray[np.float32] | np.float32]) -> None:
    """Give the initializers of a graph the values of the tensors of their names; ValueError if the shapes differ."""
    for initializer in graph.graph.initializer:
        if initializer.name in tensors:
            value = np.asarray(tensors[initializer.name])
            if value.shape != tuple(initializer.dims):
                raise ValueError(f"{initializer.name} has the shape {value.shape}, not {tuple(initializer.dims)}")
            initializer.CopyFrom(onnx.numpy_helper.from_array(value, initializer.name))
