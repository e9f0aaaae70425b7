"""Show a cell in MLflow from a process of its own, which starts up while this one works."""

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from thaw.paths import Cell, ExternalSet
from thaw.utils.ranks import is_main_process

log = logging.getLogger(__name__)


@contextmanager
def synced_in_background(
    cell: Cell, *, through: Literal["train", "evaluate"], external: Sequence[ExternalSet] = ()
) -> Iterator[None]:
    """Mirror the files of `cell` when the block has ended well; see `tracking.sync_cell`.

    MLflow takes as long to import as torch does. In a second process it does so meanwhile, on another core. If the
    block fails, that process reads the end of its input instead of a line, and ends without a trace.
    """
    if not is_main_process():
        yield
        return
    command = [
        sys.executable,
        "-m",
        "thaw.tracking.mlflow_runs",
        cell.variant,
        str(cell.seed),
        through,
        *map(str, external),
    ]
    # A session of its own, so that Ctrl-C reaches the work alone.
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as tracker:
        yield
        tracker.communicate("done\n")
    if tracker.returncode != 0:
        log.warning("MLflow does not show %s (exit code %d); run `thaw sync` later", cell, tracker.returncode)
