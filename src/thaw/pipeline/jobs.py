"""A job: one stage in a process of its own; it writes a log, can be asked to stop, and does not outlive the driver."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType

import psutil

from thaw.pipeline.dvc_stages import FORK

LOOK_EVERY_S = 0.5
"""How soon a job notices that the driver is gone, and what it has started meanwhile."""
_STOPPING = {signal.SIGTERM}
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish"}


@dataclass(kw_only=True)
class Job:
    """A stage that runs."""

    name: str
    log: Path
    process: ForkProcess
    gpu: str | None
    started_s: float = field(default_factory=time.monotonic)

    def stop(self) -> None:
        """Ask it to save and end."""
        self.process.terminate()

    def kill(self) -> None:
        """End it, and all that it has started, at once."""
        _signal_group(self.process.pid, signal.SIGKILL)

    def finish(self) -> int:
        """Its exit code, once it has ended: negative, the signal that ended it.

        What such an end leaves running is asked to save and end, and waited for: it writes where the next run will.
        """
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        if code < 0 and _signal_group(self.process.pid, signal.SIGTERM):
            while _signal_group(self.process.pid, 0):
                time.sleep(0.05)
        return code

    def seconds(self) -> float:
        """For how long it has been running."""
        return time.monotonic() - self.started_s


def start_job(name: str, work: Callable[[], int], *, log: Path, gpu: str | None, environment: Mapping[str, str]) -> Job:
    """Start `work`, which returns an exit code, with all its output in the file `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = FORK.Process(target=_run, args=(work, log, dict(environment), os.getpid()), name=name)
    # A signal that comes before the job can heed it waits until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    return Job(name=name, log=log, process=process, gpu=gpu)


def _run(work: Callable[[], int], log: Path, environment: dict[str, str], driver: int) -> None:
    # A session of its own: Ctrl-C goes to the driver alone, which decides; and whatever is left can be found.
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _stop_when_asked(driver)
    sys.exit(work())


def _stop_when_asked(driver: int) -> None:
    """Pass SIGTERM on to what this process has started, once to each; also when the driver is gone.

    DVC itself goes on: it waits for its command, and never leaves dvc.lock half written. A command that it starts after
    the signal gets it too.
    """
    told: set[int] = set()
    stopping = False

    def look(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = stopping or os.getppid() != driver
        if stopping:
            _terminate_commands(psutil.Process(), told)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        look(number, frame)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY_S, LOOK_EVERY_S)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _terminate_commands(parent: psutil.Process, told: set[int]) -> None:
    """Send SIGTERM to the commands of a process; a shell that waits for one is left to do so."""
    for child in parent.children():
        try:
            if child.name() in _SHELLS and child.children():
                _terminate_commands(child, told)
            elif child.pid not in told:
                told.add(child.pid)
                child.terminate()
        except psutil.NoSuchProcess:
            continue


def _signal_group(leader: int | None, number: int) -> bool:
    """Send a signal to all processes of a job; false if there are none."""
    assert leader is not None
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True
