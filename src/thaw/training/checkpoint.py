"""Checkpoints: what a killed run resumes from, when they are written, and whose they are.

Each candidate of a cell has one, `.thaw/checkpoints/VARIANT-SEED-NUMBER.pt`, and each process of `embed` one in
`.thaw/checkpoints/embed`; neither git nor DVC looks at them. A checkpoint carries a hash of all that the run depends
on, so that another run never resumes from it, and a checksum, so that a damaged one is noticed. It is loaded as plain
values and tensors: nothing in it is executed.
"""

import hashlib
import io
import json
import logging
import os
import pickle
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from thaw.errors import one_line
from thaw.utils.atomic import new_file
from thaw.utils.code_closure import closure_sha256

log = logging.getLogger(__name__)

SAVE_INTERVAL_S = 20.0
"""Within an epoch a checkpoint is written so often; at the end of an epoch, always, but for the next constant."""

WORK_PER_COST = 20
"""Work is saved once it has taken so many times what writing the last checkpoint took: 5 % go into saving at most."""

_CHECKSUM_BYTES = 4
"""A CRC-32 of the rest, at the start of the file."""


@dataclass(kw_only=True)
class Checkpointer:
    """One run's checkpoint on disk, and when it was last written."""

    path: Path

    key: str
    """Of the run, by `run_key`."""

    _saved_s: float = field(default_factory=time.perf_counter, init=False)
    _cost_s: float = field(default=0.0, init=False)

    def is_due(self, *, epoch_ended: bool = False) -> bool:
        """Whether there is so much unsaved work that a checkpoint is worth what writing it costs."""
        unsaved_s = time.perf_counter() - self._saved_s
        return unsaved_s >= WORK_PER_COST * self._cost_s and (epoch_ended or unsaved_s >= SAVE_INTERVAL_S)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint over the last one; it is on the disk when this returns.

        Where it cannot be written, for instance because the disk is full, a warning is logged and the last one stays.

        Args:
            state: plain values, tensors, and mappings and lists of them, as `state_dict` returns.
        """
        started_s = time.perf_counter()
        buffer = io.BytesIO()
        torch.save({"key": self.key, "state": dict(state)}, buffer)
        content = buffer.getbuffer()
        try:
            with new_file(self.path) as temporary, temporary.open("wb") as file:
                file.write(zlib.crc32(content).to_bytes(_CHECKSUM_BYTES))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.warning(
                "the checkpoint %s cannot be written (%s): the run goes on without it", self.path, one_line(error)
            )
        self._saved_s = time.perf_counter()
        self._cost_s = self._saved_s - started_s

    def load(self) -> dict[str, Any] | None:
        """The state in the checkpoint of this run, its tensors on the CPU, or None if there is none.

        Another run's checkpoint is deleted. One that is damaged is put aside, with a warning.
        """
        if not self.path.exists():
            return None
        try:
            content = self.path.read_bytes()
            if zlib.crc32(content[_CHECKSUM_BYTES:]) != int.from_bytes(content[:_CHECKSUM_BYTES]):
                raise ValueError("its checksum is wrong")
            saved = torch.load(io.BytesIO(content[_CHECKSUM_BYTES:]), map_location="cpu", weights_only=True)
        except (OSError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            aside = self.path.with_suffix(".damaged")
            os.replace(self.path, aside)
            log.warning(
                "the checkpoint is damaged (%s): it is now %s, and the run starts again", one_line(error), aside
            )
            return None
        if saved["key"] != self.key:
            self.remove()
            return None
        state: dict[str, Any] = saved["state"]
        return state

    def remove(self) -> None:
        """Delete it, if it is there."""
        self.path.unlink(missing_ok=True)


def run_key(facts: Mapping[str, Any], *, module: str) -> str:
    """One hash over `facts`, which JSON can hold, and over the code of a run and the libraries that it computes with.

    Args:
        facts: all that the run's result depends on.
        module: the module of this package that the run starts in, such as `training.train`; its code is that module and
            all that it imports (see `code_closure`).
    """
    text = json.dumps({"facts": facts, "code": closure_sha256(module)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
