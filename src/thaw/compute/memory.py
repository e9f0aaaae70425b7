"""How much memory this process has held at most, how it is kept, and what is said when there is too little."""

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thaw.errors import TrainingError


def process_peak_mib() -> float:
    """The most memory that this process has held since it began to run this program, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `ru_maxrss`, which on Linux begins with what the parent held when it started this process.
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""glibc's names of three of its limits, in <malloc.h>."""


def keep_freed_memory() -> None:
    """Let the process use freed memory again, instead of giving it back to the kernel and asking for new.

    glibc maps every large block afresh, which is what a batch's maps are, and the kernel clears it page by page: with
    batches of 32 images at 224 px that took as long as the arithmetic. Threads share one arena, since those of other
    threads hold no large blocks. Elsewhere than on glibc nothing changes.
    (https://man7.org/linux/man-pages/man3/mallopt.3.html)
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


@contextmanager
def explain_out_of_memory(what: str, *, remedy: str) -> Iterator[None]:
    """Turn running out of memory, the GPU's or the machine's, into one sentence.

    Args:
        what: what was too large, for instance "a batch of 32 images of 224 px".
        remedy: what to set.

    Raises:
        TrainingError: the block ran out of memory.
    """
    try:
        yield
    except Exception as error:  # onnxruntime's have no class of their own
        if not ran_out_of_memory(error):
            raise
        on_gpu = any(name in str(error).lower() for name in ("cuda", "cudnn", "cublas"))
        place = "GPU's" if on_gpu else "machine's"
        raise TrainingError(f"{what} does not fit into the {place} memory; {remedy}") from error


_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "bad_alloc",
    "failed to allocate memory",
)  # fmt: skip
"""How the allocators of CPU, CUDA, cuDNN, cuBLAS, C++ and onnxruntime put it."""


def ran_out_of_memory(error: Exception) -> bool:
    """Whether this is how an allocator complains."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
