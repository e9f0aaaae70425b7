"""One `thaw repro` at a time in one project."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from thaw.errors import ConfigError, write_line

PATIENCE_S = 120.0
"""How long the jobs of a driver that was killed may take to save and end."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock `path` for the block; so do all processes that are forked in it, as long as they live.

    Hence it is never stale, and free once the last job of a driver that was killed has ended. What a job runs does not
    hold it: a command that outlives both, since both were killed, is not seen.

    Raises:
        ConfigError: another driver is running, or jobs of one that was killed do not end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline_s, told = time.monotonic() + PATIENCE_S, False
        while not _try_lock(descriptor):
            holder = int(os.pread(descriptor, 20, 0) or 0)
            if psutil.pid_exists(holder):
                raise ConfigError(
                    f"thaw repro is running here already (process {holder}); wait until it has ended, or stop it: "
                    f"kill {holder}"
                )
            if time.monotonic() > deadline_s:
                jobs = " ".join(map(str, _list_holders(path)))
                raise ConfigError(
                    "jobs of a thaw repro that was killed still run here; wait until they have ended, or stop them: "
                    f"kill {jobs}"
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


def _list_holders(path: Path) -> list[int]:
    """The other processes that have the file open."""
    name, holders = str(path.resolve()), []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is somebody else's
            if process.pid != os.getpid() and name in [file.path for file in process.open_files()]:
                holders.append(process.pid)
    return holders
