"""The peak memory of a process is its own.

Run with `pytest tests/test_memory.py`.
"""

import subprocess
import sys

from thaw.memory import process_peak_mib

MIB = 2**20


def test_it_sees_what_was_held_and_freed() -> None:
    before = process_peak_mib()
    held = b"x" * (200 + round(before)) * MIB
    del held
    assert process_peak_mib() >= before + 190


def test_it_does_not_count_what_the_parent_held() -> None:
    program = (
        "import subprocess, sys; held = b'x' * (500 << 20); "
        "print(subprocess.run([sys.executable, '-c', 'from thaw.memory import *; print(process_peak_mib())'], "
        "capture_output=True, text=True, check=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100
