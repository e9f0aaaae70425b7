import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="pipes that keep writes apart are Linux's")
def test_a_line_of_an_error_is_written_in_one_piece() -> None:
    program = """
from thaw.errors import DataError, exit_code

def fail() -> None:
    raise DataError("first part\\nsecond part")

exit_code(fail)
"""
    read_end, write_end = os.pipe2(os.O_DIRECT)  # each read returns one write
    subprocess.run([sys.executable, "-c", program], stderr=write_end, check=True)
    os.close(write_end)
    pieces = [os.read(read_end, 4096) for _ in range(2)]
    os.close(read_end)
    assert pieces == [b"error: first part second part\n", b""]


def test_python_looks_for_garbage_seldom_and_not_at_its_end() -> None:
    # What is part of a cycle is finalised by a collection alone, so what stays silent was not collected.
    program = """
from thaw.errors import exit_code

class Cycle:
    def __init__(self) -> None:
        self.me = self
    def __del__(self) -> None:
        print("collected")

def main() -> None:
    global kept, many
    kept, many = Cycle(), [[] for _ in range(10_000)]
    Cycle()
    [[] for _ in range(10_000)]
    print("done")

exit_code(main)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said == "done\n"
