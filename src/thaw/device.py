"""Where the arithmetic happens, how it is made repeatable and fast, and how much memory it took."""

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from thaw.errors import ConfigError, TrainingError
from thaw.memory import process_peak_mib
from thaw.params import ComputeParams


def choose_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device() -> dict[str, str | int | None]:
    """What computes: with another processor, library or number of threads the same inputs can give other bytes."""
    device = choose_device()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "threads": torch.get_num_threads(),
    }


def _processor_name() -> str:
    """The model, since oneDNN's kernels differ by more than the instruction set; and what torch uses of it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"


def make_deterministic() -> None:
    """Let torch use only algorithms that give the same bytes every time; it raises where it has none.

    Call it before the first computation: cuBLAS reads its workspace setting when it starts
    (https://docs.pytorch.org/docs/stable/notes/randomness.html).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # It would fill all new memory with NaN, a seventh of the time, against code that reads what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # Else float32 would mean 10 bits of a number's 23 in a GPU's convolutions; bfloat16 is there for speed.
    torch.backends.cudnn.allow_tf32 = False


def in_precision(
    forward: Callable[[Tensor], Tensor], compute: ComputeParams, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """`forward`, computed in `compute.precision` where torch.autocast holds that safe; the result is float32.

    bfloat16 has float32's range, so gradients need no scaling (https://docs.pytorch.org/docs/stable/amp.html).
    """
    if compute.precision == "float32":
        return forward

    def in_bfloat16(inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            made = forward(inputs)
        return made.float()

    return in_bfloat16


def compiled(module: nn.Module, **options: bool) -> Callable[[Tensor], Tensor]:
    """`module` in code that torch.compile writes for it at its first call, and again for each other shape.

    Args:
        module: stays as it is.
        options: inductor's (https://docs.pytorch.org/docs/stable/generated/torch.compile.html).

    Raises:
        ConfigError: there is no compiler for that code.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"compute.compile: needs a C++ compiler, and there is no {compiler}; install it, name another one in the "
            "environment variable CXX, or set compute.compile to false"
        )
    # What was compiled before counts against a limit, behind which nothing is compiled and nothing said: each phase
    # starts anew, as it would after a kill, and the limit is an error.
    torch.compiler.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    made: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False, options=dict(options))
    return made


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""glibc's names of two of its limits, in <malloc.h>."""


def keep_freed_memory() -> None:
    """Let the process use freed memory again, instead of giving it back to the kernel and asking for new.

    glibc maps every large block afresh, which is what a batch's maps are, and the kernel clears it page by page: with
    batches of 32 pictures at 224 px that took as long as the arithmetic. Elsewhere than on glibc nothing changes.
    (https://man7.org/linux/man-pages/man3/mallopt.3.html)
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far, in MiB: the GPU's if one computes, else the process's own."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    return process_peak_mib()


@contextmanager
def memory_explained(what: str, *, remedy: str) -> Iterator[None]:
    """Turn running out of memory, the GPU's or the machine's, into one sentence.

    Args:
        what: what was too large, for instance "a batch of 32 pictures of 224 px".
        remedy: what to set.

    Raises:
        TrainingError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        place = "GPU's" if choose_device().type == "cuda" else "machine's"
        raise TrainingError(f"{what} does not fit into the {place} memory; {remedy}") from error


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "bad_alloc")
"""How the allocators of CPU, CUDA, cuDNN, cuBLAS and C++ put it: on the CPU torch raises a plain RuntimeError."""


def ran_out_of_memory(error: Exception) -> bool:
    """Whether this is how an allocator complains."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error).lower() for words in _OUT_OF_MEMORY
    )
