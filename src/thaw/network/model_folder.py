"""The folder of a saved model, checked before torch is loaded and before anything of its size is built.

A model may come from anywhere. Its card and the header of its tensors are small, and say together whether the rest can
be what they describe.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from thaw.errors import DataError, one_line
from thaw.network import model_card
from thaw.network.model_card import ModelCard, read_model_card
from thaw.network.shapes import Shapes, explain_misfit

TENSORS = "model.safetensors"
"""The file of the tensors, in the folder of the model."""

_DTYPES = frozenset({"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
"""Of tensors that torch and numpy both read, as safetensors names them; numpy has no bfloat16 and no float8."""
_MAX_CARD_BYTES = 4 * 2**20
"""The card of a thousand classes has some 30,000 bytes."""
_MAX_HEADER_BYTES = 8 * 2**20
"""A header has some 100 bytes a tensor, and networks have some thousands of them."""


def is_model_folder(path: Path) -> bool:
    """Whether somebody meant this to be a model, sound or not."""
    return any(os.path.lexists(path / name) for name in (model_card.NAME, TENSORS))


def check_model_folder(folder: Path) -> tuple[ModelCard, Shapes]:
    """The card of a model, and the shapes of its tensors, which have the head that the card describes.

    Raises:
        DataError: a file is missing, broken or unreasonably large, or the head is another one; says the cause alone.
    """
    _require_size(folder / model_card.NAME, most=_MAX_CARD_BYTES)
    card = read_model_card(folder)
    shapes = _read_shapes(folder / TENSORS)
    head = shapes.get("head.weight", ()), shapes.get("head.bias", ())
    if len(head[0]) != 2 or head[1] != head[0][:1]:
        raise DataError(f"{TENSORS} has no head")
    if head[0][0] != len(card.classes):
        raise DataError(
            f"{model_card.NAME} names {len(card.classes):,} classes, and {TENSORS} has a head for {head[0][0]:,}"
        )
    return card, shapes


def require_model_folder(folder: Path) -> None:
    """Raise DataError, one sentence, unless a folder may hold a model."""
    try:
        check_model_folder(folder)
    except (OSError, DataError) as error:
        raise refuse_model_folder(folder, error) from None


def require_tensors(shapes: Shapes, needed: Shapes, *, network: str) -> None:
    """Raise DataError unless a model has the very tensors that its network needs."""
    misfit = explain_misfit(shapes, needed, network=network, known=())
    if misfit:
        raise DataError(f"{TENSORS} {misfit}")


def require_finite(first_not_finite: str | None) -> None:
    """Raise DataError if one of a model's tensors, which has this name, holds NaN or infinite numbers."""
    if first_not_finite is not None:
        raise DataError(f"{TENSORS} holds NaN or infinite numbers, in {first_not_finite}")


def require_variances(tensors: Mapping[str, Any]) -> None:
    """Raise DataError if a BatchNorm of a model has a variance below 0, whose root a ReLU may turn from NaN to 0."""
    for name, tensor in tensors.items():
        if name.endswith("running_var") and (tensor < 0).any():
            raise DataError(f"{TENSORS} holds a variance below 0, in {name}")


def refuse_model_folder(folder: Path, error: Exception) -> DataError:
    """The sentence on a folder that holds no sound model, and what was wrong."""
    reason = one_line(error, most=400).replace(f"{folder}/", "")
    return DataError(f"{folder} holds no whole model ({reason}); name a folder that the train stage wrote")


def _read_shapes(path: Path) -> Shapes:
    """The header of a safetensors file; opening one also checks that the file is as long as its header says.

    The format: https://huggingface.co/docs/safetensors/index#format
    """
    _require_size(path, most=None)
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise DataError(
            f"{path.name} is no safetensors file, or its header of {header_bytes:,} bytes is not to be trusted"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            dtypes = {name: tensor.get_dtype() for name, tensor in found.items()}
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in found.items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path.name} is damaged: {one_line(error)}") from None
    for name, dtype in dtypes.items():
        if dtype not in _DTYPES:
            raise DataError(f"{path.name} has {name} as {dtype}, which is not read; save it as F32")
    return shapes


def _require_size(path: Path, *, most: int | None) -> None:
    if not path.is_file():
        there = path.exists() or path.is_symlink()
        raise DataError(f"{path.name} is no file" if there else f"{path.name} is missing")
    size = path.stat().st_size
    if most is not None and size > most:
        raise DataError(f"{path.name} has {size:,} bytes, and no card has more than {most:,}")
