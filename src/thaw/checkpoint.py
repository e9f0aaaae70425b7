"""Work that was killed goes on where it was: what a checkpoint holds, when it is written, whose it is.

One cell has one checkpoint, `.thaw/checkpoints/VARIANT-SEED.safetensors`, and each process of `embed` one in
`.thaw/checkpoints/embed`; neither git nor DVC looks at them. A checkpoint carries a hash of all that the run depends
on, so that another run never goes on from it, and a checksum of its tensors, so that a torn one is noticed. Nothing is
pickled.
"""

import hashlib
import json
import logging
import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from thaw.atomic import new_file
from thaw.processes import process_count

log = logging.getLogger(__name__)

EVERY_S = 20.0
"""Within an epoch a checkpoint is written so often; at the end of an epoch, always, but for the next constant."""

WORK_PER_COST = 20
"""Work is saved once it has taken so many times what writing the last checkpoint took: 5 % go into saving at most."""

_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
"""Those that compute, or decode pictures: with another version of one the same inputs can give other bytes."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A moment of a run."""

    position: dict[str, Any]
    """Where it is, and the numbers so far: what JSON can hold. Floats come back to the last bit."""

    tensors: dict[str, Tensor]


@dataclass(kw_only=True)
class Checkpoints:
    """One run's checkpoint on disk, and when it was last written."""

    path: Path

    key: str
    """Of the run, by `run_key`."""

    _saved_s: float = field(default_factory=time.perf_counter, init=False)
    _cost_s: float = field(default=0.0, init=False)

    def are_due(self, *, epoch_ended: bool = False) -> bool:
        """Whether there is so much unsaved work that a checkpoint is worth what writing it costs."""
        unsaved_s = time.perf_counter() - self._saved_s
        return unsaved_s >= WORK_PER_COST * self._cost_s and (epoch_ended or unsaved_s >= EVERY_S)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write `checkpoint` over the last one."""
        started_s = time.perf_counter()
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        about = {"key": self.key, "checksum": _checksum(checkpoint.position, tensors), "position": checkpoint.position}
        with new_file(self.path) as temporary:
            save_file(tensors, temporary, metadata={"about": json.dumps(about)})
        self._saved_s = time.perf_counter()
        self._cost_s = self._saved_s - started_s

    def load(self) -> Checkpoint | None:
        """The checkpoint of this run, if there is one.

        Another run's is deleted. One that cannot be read is put aside, with a warning.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["about"])
                if about["key"] != self.key:
                    self.remove()
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
            if about["checksum"] != _checksum(about["position"], tensors):
                raise ValueError("its checksum is wrong")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            aside = self.path.with_suffix(".unreadable")
            os.replace(self.path, aside)
            reason = " ".join(str(error).split())[:120]
            log.warning("the checkpoint is not readable (%s): it is now %s, and the work starts anew", reason, aside)
            return None
        return Checkpoint(position=about["position"], tensors=tensors)

    def remove(self) -> None:
        """Delete it, if it is there."""
        self.path.unlink(missing_ok=True)


def run_key(facts: Mapping[str, Any]) -> str:
    """One hash over `facts`, which JSON can hold, and over the code and the libraries that compute."""
    package = Path(__file__).parent
    code = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(package.glob("*.py"))}
    libraries = {name: version(name) for name in _LIBRARIES}
    text = json.dumps({"facts": facts, "code": code, "libraries": libraries}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(position: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """A CRC-32 over all that is saved: for torn writes, not for malice."""
    checksum = zlib.crc32(json.dumps(position, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, checksum)
    return checksum


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of its parameters, as `INDEX.NAME`; see `restore_optimizer`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items() if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, learning_rates: list[float]
) -> None:
    """Give a new optimiser the memory of another one over the same parameters.

    Args:
        optimizer: changed in place; it has not yet made a step.
        tensors: what `optimizer_tensors` returned.
        learning_rates: one for each of its groups of parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, saved in tensors.items():
        index, name = key.split(".")
        parameter = parameters[int(index)]
        # In the parameter's own order in memory (channels last): so the same kernels run as without the kill.
        value = torch.empty_like(parameter).copy_(saved) if saved.shape == parameter.shape else saved
        state.setdefault(int(index), {})[name] = value
    for group, learning_rate in zip(groups, learning_rates, strict=True):
        group["lr"] = learning_rate
    optimizer.load_state_dict({"state": state, "param_groups": groups})


@contextmanager
def noted_signals() -> Iterator[Callable[[], str | None]]:
    """Note SIGTERM and Ctrl-C within the block, so that work can stop at a good moment; a second one ends it at once.

    Not so in one of several processes, which can get the same signal from whoever stops the job and from torchrun;
    that kills by itself who does not end. For the main thread only.

    Yields:
        A function that returns the name of the signal that came, or None.
    """
    names: list[str] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, _frame: FrameType | None) -> None:
        names.append(signal.Signals(number).name)
        if process_count() == 1:
            restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: names[0] if names else None
    finally:
        restore()
