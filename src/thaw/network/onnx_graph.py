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

from thaw.errors import DataError
from thaw.network.model_card import ModelCard, read_model_card
from thaw.network.model_folder import (
    TENSORS,
    check_model_folder,
    refuse_model_folder,
    require_finite,
    require_tensors,
    require_variances,
)
from thaw.paths import ONNX_GRAPHS
from thaw.utils.code_closure import closure_sha256
from thaw.utils.records import Record

TEMPERATURE = "temperature"
"""The initializer that the logits are divided by."""
_ARCHITECTURE = "architecture"

Array = NDArray[Any] | np.float32


class FoldedNorm(Record):
    """A BatchNorm that the graph does not have, since it was folded into the convolution before it."""

    convolution: str
    norm: str
    eps: float


class Architecture(Record):
    """What a graph has to be told of to be filled, and to be given images."""

    tensors: dict[str, tuple[int, ...]]
    """The names and shapes of the tensors of a model."""

    folded: tuple[FoldedNorm, ...]
    view: dict[str, Any]
    """How images are cut; see `deployable.describe_view`."""


def graph_file(card: ModelCard) -> Path:
    """Where the exported graph of a model's architecture is kept; another library or other code makes another one."""
    facts = {
        "backbone": card.backbone.model_dump(mode="json", include={"name", "blocks", "image_size_px"}),
        "classes": len(card.classes),
        "code": closure_sha256("network.onnx_export"),
        "libraries": [version(name) for name in ("onnx", "onnxscript")],
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    # Without the backbone's name: a card may be anybody's, and name no network but a path.
    return ONNX_GRAPHS / f"network-{card.backbone.image_size_px}px-{key[:16]}.onnx"


def serialise_graph(graph: onnx.ModelProto, architecture: Architecture) -> bytes:
    """An exported graph as it is kept."""
    onnx.helper.set_model_props(graph, {_ARCHITECTURE: architecture.model_dump_json()})
    return bytes(graph.SerializeToString())


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
    kept = graph_file(read_model_card(folder))
    return fill_graph(kept.read_bytes(), folder) if kept.is_file() else None


def fill_graph(kept: bytes, folder: Path) -> onnx.ModelProto:
    """The graph of an architecture with the tensors of a saved model of it.

    Raises:
        DataError: there is no such model, or its tensors do not fit the graph.
    """
    graph = onnx.load_model_from_string(kept)
    props = {prop.key: prop.value for prop in graph.metadata_props}
    architecture = Architecture.model_validate_json(props[_ARCHITECTURE])
    try:
        card, shapes = check_model_folder(folder)
        require_tensors(shapes, architecture.tensors, network=card.backbone.name)
        tensors = load_file(folder / TENSORS)
        require_finite(next((name for name, tensor in tensors.items() if not np.isfinite(tensor).all()), None))
        require_variances(tensors)
    except (OSError, SafetensorError, DataError) as error:
        raise refuse_model_folder(folder, error) from None
    onnx.helper.set_model_props(graph, describe(card, view=architecture.view))
    # What float32 does not hold once it is folded shows in the probabilities, as it does in torch.
    with np.errstate(invalid="ignore", over="ignore"):
        filled = _fold(tensors, architecture.folded) | {TEMPERATURE: np.float32(card.temperature)}
        for initializer in graph.graph.initializer:
            if initializer.name in filled:
                dtype = onnx.helper.tensor_dtype_to_np_dtype(initializer.data_type)
                value = np.asarray(filled[initializer.name], dtype)
                assert value.shape == tuple(initializer.dims), initializer.name
                initializer.CopyFrom(onnx.numpy_helper.from_array(value, initializer.name))
    return graph


def _fold(tensors: Mapping[str, NDArray[Any]], folded: Sequence[FoldedNorm]) -> dict[str, Array]:
    """Tensors of a model with each BatchNorm in the convolution before it, computed in float64."""
    result: dict[str, Array] = dict(tensors)
    for layer in folded:
        norm = {
            key: tensors[f"{layer.norm}.{key}"].astype(np.float64)
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        scale = norm["weight"] / np.sqrt(norm["running_var"] + layer.eps)  # (channels,)
        weight = tensors[f"{layer.convolution}.weight"]  # (channels, inputs, height, width)
        bias = tensors.get(f"{layer.convolution}.bias", 0.0) - norm["running_mean"]
        result[f"{layer.convolution}.weight"] = weight * scale[:, None, None, None]
        result[f"{layer.convolution}.bias"] = bias * scale + norm["bias"]
    return result
