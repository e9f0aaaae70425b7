""".thaw/live/VARIANT-SEED.jsonl: how far a training is, a line at a time; the writer beside the reader.

Whoever shows a training reads this file while it grows. The training never waits for a reader, and where a line cannot
be written, for instance because the disk is full, it goes on without.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thaw.errors import one_line
from thaw.training.history_csv import Epoch

log = logging.getLogger(__name__)

EVERY_S = 2.0
"""A line comes at the end of each epoch, and within epochs so often."""


@dataclass(frozen=True, kw_only=True)
class LiveLine:
    """Where a candidate is, and the rows of its history since the last line."""

    candidate: int
    """Counted from 0."""

    unix_s: float
    phase: int
    """Counted from 0."""

    epoch: int
    """Counted from 1 in its phase: the one that is being trained."""

    images: int
    """Learnt from in this epoch."""

    epochs: tuple[Epoch, ...]


@dataclass(kw_only=True)
class LiveWriter:
    """Appends to the file; one for each candidate."""

    path: Path
    candidate: int
    _rows: int = field(default=0, init=False)
    _written_s: float = field(default=float("-inf"), init=False)
    _failed: bool = field(default=False, init=False)

    def update(self, history: Sequence[Epoch], *, phase: int, epoch: int, images: int) -> None:
        """Say where the training is; cheap enough for each step."""
        now_s = time.monotonic()
        new = history[self._rows :]
        if self._failed or not (new or now_s - self._written_s >= EVERY_S):
            return
        line = LiveLine(
            candidate=self.candidate, unix_s=time.time(), phase=phase, epoch=epoch, images=images, epochs=tuple(new)
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(line)) + "\n")
        except OSError as error:
            self._failed = True
            log.warning("%s cannot be written (%s): MLflow shows the curves at the end", self.path, one_line(error))
        self._rows, self._written_s = len(history), now_s


@dataclass(kw_only=True)
class LiveReader:
    """Reads what has come since it last did."""

    path: Path
    _offset: int = field(default=0, init=False)

    def read_new(self) -> list[LiveLine]:
        """The whole lines that are new; one that is still being written comes with the next call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [_parse(json.loads(line)) for line in whole.splitlines()]


def _parse(values: dict[str, Any]) -> LiveLine:
    return LiveLine(**{**values, "epochs": tuple(Epoch(**row) for row in values["epochs"])})
