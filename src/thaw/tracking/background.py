"""The tracker's other end: what a stage or a command asks of it, and how long it waits for an answer.

The tracker (see `tracker`) imports MLflow while this process works, and shows a training while it happens. It may die
or hang: the work goes on, and loses a few seconds at its end. What drivers print goes to a log.
"""

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from thaw.paths import MLFLOW_LOG, Cell, ExternalSet
from thaw.tracking.location import Shown, StoreError, database_of, tracking_uri, without_password
from thaw.utils.ranks import is_main_process

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long a stage that has ended waits for a sign of life where MLflow is a server."""

START_S = 60.0
"""How long the tracker may take to start, or with a file: on a busy machine, imports do."""

LOOK_S = 1.0
"""How often to see whether a silent tracker can still say something at all."""


@contextmanager
def tracked_training(cell: Cell) -> Iterator[None]:
    """Show the training in the block in MLflow while it happens, and then what it made."""
    if not is_main_process():
        yield
        return
    cell.live.unlink(missing_ok=True)
    with _tracking(f"{cell}", {"job": "train", "cell": cell}):
        yield
    cell.live.unlink(missing_ok=True)


@contextmanager
def tracked_evaluation(cell: Cell, *, external: Sequence[ExternalSet] = ()) -> Iterator[None]:
    """Add the scores to the run of `cell` when the block has ended well: on `external`, or else on the test split."""
    if not is_main_process():
        yield
        return
    names = [external_set.name for external_set in external]
    with _tracking(f"the scores of {cell}", {"job": "evaluate", "cell": cell, "external": names}):
        yield


@contextmanager
def tracked_report() -> Iterator[Mapping[str, str]]:
    """Show all cells, yield the ids of their runs, which may be none, and add the report when the block has ended."""
    with _tracking("the report", {"job": "report"}) as tracker:
        yield tracker.wait_until_shown().runs


def sync_now(*, champion: Cell | None = None) -> Shown:
    """Make MLflow show all that DVC's outputs hold.

    Args:
        champion: the cell whose model the report recommends, if there is a report.

    Raises:
        StoreError: the store does not take it.
    """
    tracker = _Tracker({"job": "sync", "champion": champion}, patience_s=START_S)
    shown = tracker.wait_until_shown()
    tracker.end(well=True)
    if tracker.failure is not None:
        raise StoreError(tracker.failure)
    return shown


@contextmanager
def _tracking(what: str, job: Mapping[str, Any]) -> Iterator["_Tracker"]:
    # A file answers as soon as the machine does; a server may never do.
    tracker = _Tracker(job, patience_s=PATIENCE_S if database_of(tracking_uri()) is None else START_S)
    try:
        yield tracker
    except BaseException:
        tracker.end(well=False)
        raise
    tracker.end(well=True)
    if tracker.failure is not None:
        log.warning("MLflow does not show %s (%s); `thaw sync` will", what, tracker.failure)


class _Tracker:
    """The process, and what it has said."""

    def __init__(self, job: Mapping[str, Any], *, patience_s: float) -> None:
        self.failure: str | None = None
        """Why it gave up, or had to be given up."""

        self._patience_s, self._started_s, self._heard = patience_s, time.monotonic(), False
        self._rest = b""
        MLFLOW_LOG.parent.mkdir(parents=True, exist_ok=True)
        with MLFLOW_LOG.open("ab") as drivers:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "thaw.tracking.tracker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=drivers,
                bufsize=0,
                start_new_session=True,  # Ctrl-C reaches the work alone
            )
        self._tell(json.dumps(job))

    def wait_until_shown(self) -> Shown:
        """What it says to show; nothing if it fails."""
        for message in self._listen():
            if "runs" in message:
                return Shown(**message)
        return Shown({})

    def end(self, *, well: bool) -> None:
        """Say how the work has ended; if well, wait until all is shown."""
        if well:
            self._tell("done")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        if well:
            for _ in self._listen():
                pass
            self._process.stdout.close()
            if self._process.wait() and self.failure is None:
                self.failure = f"its process ended with code {self._process.returncode}; see {MLFLOW_LOG}"

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # It may have ended. The command `thaw` lets a closed pipe end it, which is meant for its own output.
        before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with suppress(OSError):
            self._process.stdin.write(f"{line}\n".encode())
        signal.signal(signal.SIGPIPE, before)

    def _listen(self) -> Iterator[dict[str, Any]]:
        """What it says, until it ends or says nothing for too long."""
        assert self._process.stdout is not None
        heard_s = time.monotonic()
        while True:
            until_s = max(heard_s + self._patience_s, 0.0 if self._heard else self._started_s + START_S)
            if not select.select([self._process.stdout], [], [], LOOK_S)[0]:
                if self._is_stopped():
                    self.failure = "its process was stopped by a signal"
                elif time.monotonic() >= until_s:
                    self.failure = f"no answer from {without_password(tracking_uri())} for {until_s - heard_s:.0f} s"
                else:
                    continue
                self._process.kill()
                return
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                return
            self._heard, heard_s = True, time.monotonic()
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            messages = [json.loads(line) for line in lines]
            # Before any is yielded: who asks may stop at the first one.
            for message in messages:
                self.failure = message.get("failed", self.failure)
            yield from messages

    def _is_stopped(self) -> bool:
        import psutil

        return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)
