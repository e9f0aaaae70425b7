"""Where the arithmetic happens, how it is made repeatable, and how much memory it took."""

import os
import resource
import sys

import torch


def choose_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_deterministic() -> None:
    """Let torch use only algorithms that give the same bytes every time; it raises where it has none.

    Call it before the first computation: cuBLAS reads its workspace setting when it starts
    (https://docs.pytorch.org/docs/stable/notes/randomness.html).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far, in MiB: the GPU's if one computes, else the process's own."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
