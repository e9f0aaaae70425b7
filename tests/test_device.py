"""The device: memory that was freed is used again."""

import resource
import subprocess
import sys

import pytest

# 64 MiB at a time: up to 32 MiB glibc adapts by itself.
COUNT_PAGE_FAULTS = """
import resource, torch
from thaw.device import keep_freed_memory
if {keep}:
    keep_freed_memory()
for _ in range(40):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone gives large blocks back at once")
def test_freed_memory_is_used_again() -> None:
    without, with_it = (
        int(subprocess.check_output([sys.executable, "-c", COUNT_PAGE_FAULTS.format(keep=keep)])) for keep in (0, 1)
    )
    pages_of_a_block = 2**24 * 4 // resource.getpagesize()
    assert without - with_it > 20 * pages_of_a_block
