"""A weights file, in any of the usual wrappings -> the tensors of a backbone, or one sentence on what the file is.

Checkpoints hold a network's state dict under a key (`state_dict`, `model`), with the prefixes of what the network was
wrapped in while it was trained (`module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning), or
with other things beside it. Nothing is guessed: of all state dicts in a file, the one whose names are the network's is
taken, and two of them are named. A moving average (EMA) is other weights than those that were trained, and is taken
only where it is all that a file was saved of.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from thaw.errors import ConfigError, one_line
from thaw.network.backbone_list import require_weights_file
from thaw.network.shapes import explain_misfit

State = Mapping[str, Tensor]
"""A state dict: names with tensors."""

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of a network that was wrapped whole."""
_PARTS = ("model.", "backbone.")
"""Prefixes under which a network is a part of something larger: what lies beside it is left out."""
_AVERAGE = re.compile(r"(^|[._])ema([._]|$)")
_DEPTH = 4
"""Of keys and prefixes in each other: no checkpoint has more."""
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_SAVE = "torch.save(network.state_dict(), ...)"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """One of the state dicts in a file."""

    place: str
    """The keys and prefixes on the way to it; empty if the file is nothing else."""

    state: State
    """Under the names of the whole network, without its classifier."""


def read_weights(path: Path) -> Mapping[str, Any]:
    """What a .pth or .safetensors file holds under its keys; nothing in it is executed.

    Raises:
        ConfigError: there is no such file, it is no weights file, or it holds code.
    """
    require_weights_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Torch warns of odd pickles before it refuses them.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise whatever the bytes lead them to
        raise _explain_unreadable(path, error) from error
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"backbone.weights_file: {path} does not hold a state dict (names with tensors), but a "
            f"{type(content).__name__}; write one with {_SAVE}"
        )
    return content


def load_weights_file(
    path: Path, module: nn.Module, names: Mapping[str, str], *, network: str, classifiers: tuple[str, ...]
) -> None:
    """Load the tensors of a backbone from a weights file.

    Args:
        path: the file, in any of the usual wrappings.
        module: the backbone; its parameters and buffers are overwritten.
        names: the names that `module` and the whole network have for their tensors -> the network's names. A file may
            use either: other tools write the second, thaw's own models have the first. It may lack what `module` does
            not keep of the network.
        network: the backbone's name, for messages.
        classifiers: how the names of the tensors begin that the backbone lacks, which a file may hold or not.

    Raises:
        ConfigError: the file cannot be read, does not fit, or holds more than one state dict that does.
    """
    own = {names[name]: tensor for name, tensor in module.state_dict().items()}
    own = {name: tensor for name, tensor in own.items() if not name.startswith(classifiers)}
    found = [
        _Found(place=place, state=_rename(state, names, classifiers))
        for place, state in _find_states(read_weights(path))
    ]
    misfits = [_explain_state(one.state, own, names, network) for one in found]
    fitting = [one for one, misfit in zip(found, misfits, strict=True) if not misfit]
    plain = [one for one in fitting if not _AVERAGE.search(one.place)]
    if len(plain) == 1:
        _copy(plain[0].state, own, path)
        return
    if plain:
        reason = f"holds {len(plain)} sets of weights for {network}, {plain[0].place} and {plain[1].place}"
    elif fitting:
        reason = f"holds no weights for {network} but a moving average, {fitting[0].place}"
    elif found:
        nearest = max(range(len(found)), key=lambda i: len(found[i].state.keys() & own.keys()))
        raise ConfigError(f"backbone.weights_file: {path} {misfits[nearest]}")
    else:
        raise ConfigError(f"backbone.weights_file: {path} holds no state dict (names with tensors); write one: {_SAVE}")
    raise ConfigError(f"backbone.weights_file: {path} {reason}; save the one that you mean in a file of its own")


def _find_states(content: Mapping[Any, Any], place: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """All state dicts in what a file holds, each under the keys and prefixes on the way to it."""
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if state:
        yield from _strip_prefixes(state, place)
    if depth < _DEPTH:
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _find_states(value, f"{place}.{key}" if place else key, depth + 1)


def _strip_prefixes(state: State, place: str, depth: int = 0) -> Iterator[tuple[str, State]]:
    """A state dict as it is, and as it is below each prefix that a network gets from what it is wrapped in."""
    yield place, state
    for prefix in _WRAPPERS + _PARTS if depth < _DEPTH else ():
        inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if inner and (prefix in _PARTS or len(inner) == len(state)):
            yield from _strip_prefixes(inner, f"{place}.{prefix[:-1]}" if place else prefix[:-1], depth + 1)


def _rename(state: State, names: Mapping[str, str], classifiers: tuple[str, ...]) -> State:
    """A state dict under the names of the whole network, without its classifier."""
    renamed = {names.get(name, name): value for name, value in state.items()}
    return {name: value for name, value in renamed.items() if not name.startswith(classifiers)}


def _explain_state(state: State, own: State, names: Mapping[str, str], network: str) -> str:
    found, needed = ({name: tuple(value.shape) for name, value in each.items()} for each in (state, own))
    # Files from before torch 0.4.1 do not count batches, and nothing here reads that count.
    needed = {name: shape for name, shape in needed.items() if not name.endswith("num_batches_tracked")}
    return explain_misfit(found, needed, network=network, known=set(names.values()))


def _copy(state: State, own: State, path: Path) -> None:
    with torch.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
    wrong = first_not_finite(own)
    if wrong is not None:
        raise ConfigError(
            f"backbone.weights_file: {path} holds NaN or infinite numbers, in {wrong}; name the weights of a training "
            "that did not diverge"
        )


def first_not_finite(state: State) -> str | None:
    """The name of the first tensor that holds NaN or infinite numbers, or None."""
    return next((name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())), None)


def _explain_unreadable(path: Path, error: Exception) -> ConfigError:
    """Why a weights file could not be read: it holds code, or it is something else."""
    refused = _GLOBAL.search(str(error))
    if refused or "TorchScript" in str(error):
        what = refused[1] if refused else "TorchScript"
        return ConfigError(
            f"backbone.weights_file: {path} holds code, not only tensors ({what}), and code of a file is not run; "
            f"where you trust it, load it and write {_SAVE}"
        )
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            return ConfigError(
                f"backbone.weights_file: {path} is a damaged pickle, or one that torch.save did not write, which may "
                f"hold code; write it with {_SAVE}"
            )
    return ConfigError(f"backbone.weights_file: {path} is not a weights file ({one_line(error)})")
