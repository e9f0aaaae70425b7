"""One `thaw repro` at a time in one project."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from thaw.errors import ConfigError, write_line

PATIENCE_S = 120.0
"""How long the jobs of a driver that was killed may take to save and end."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock `path` for the block; so do all processes that are forked in it, as long as they live.

    Hence it is free once the last job of a driver that was killed has ended, and is never stale.

    Raises:
        ConfigError: another driver is running.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline_s, told = time.monotonic() + PATIENCE_S, False
        while not _try_lock(descriptor):
            holder = int(os.pread(descriptor, 20, 0) or 0)
            if psutil.pid_exists(holder) or time.monotonic() > deadline_s:
                raise ConfigError(
                    f"thaw repro is running here already (process {holder}); wait until it has ended, or stop it: "
                    f"kill {holder}"
                )
            if not told:
                write_line("thaw repro: waiting for jobs of a run that was killed to save and end")
                told = True
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
