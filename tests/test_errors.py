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
