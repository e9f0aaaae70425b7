"""Where the arithmetic happens, how it is made repeatable and fast, and how much memory it took."""

import platform
from pathlib import Path

import torch

from thaw.compute.memory import process_peak_mib


def choose_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device() -> dict[str, str | int | None]:
    """What computes: with another processor, library or `compute.threads` the same inputs can give other bytes."""
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


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far, in MiB: the GPU's if one computes, else the process's own."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    return process_peak_mib()
