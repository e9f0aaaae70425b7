"""How much memory this process has held at most."""

import resource
import sys
from pathlib import Path


def process_peak_mib() -> float:
    """The most memory that this process has held since it began to run this program, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `ru_maxrss`, which on Linux begins with what the parent held when it started this process.
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
