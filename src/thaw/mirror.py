"""Show a cell in MLflow from a process of its own, which starts up while this one works."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from thaw.layout import Cell
from thaw.processes import is_first

log = logging.getLogger(__name__)


@contextmanager
def mirrored(cell: Cell, *, through: Literal["train", "evaluate"]) -> Iterator[None]:
    """Mirror the files of `cell` when the block has ended well; see `tracking.mirror_cell`.

    MLflow takes as long to import as torch does. In a second process it does so meanwhile, on another core. If the
    block fails, that process reads the end of its input instead of a line, and ends without a trace.
    """
    if not is_first():
        yield
        return
    command = [sys.executable, "-m", "thaw.tracking", cell.variant, str(cell.seed), through]
    # A session of its own, so that Ctrl-C reaches the work alone.
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as tracker:
        yield
        tracker.communicate("done\n")
    if tracker.returncode != 0:
        log.warning("MLflow does not show %s (exit code %d); run `thaw sync` later", cell, tracker.returncode)
