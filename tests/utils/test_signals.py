"""Signals: the first is noted, the second acts, and handlers come back.

Run with `pytest tests/utils/test_signals.py`.
"""

import os
import signal
import subprocess
import sys

import pytest

from thaw.utils.signals import capture_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_once_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with capture_signals() as came:
        assert came() is None
        os.kill(os.getpid(), number)
        assert came() == number.name
        # A second signal is not noted but acts.
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_signal_ends_the_work_at_once() -> None:
    program = (
        "import os, signal; from thaw.utils.signals import capture_signals\n"
        "with capture_signals():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == ""
    # Of several processes, each may get it from Slurm and from torchrun.
    environment = {**os.environ, "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still here\n")
