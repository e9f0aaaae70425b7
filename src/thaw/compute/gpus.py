"""Which GPUs a process may use, found out without torch, whose import takes seconds."""

import os
from pathlib import Path

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


def list_gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; that of the environment counts, if it is set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(_NVIDIA_GPUS.iterdir())))] if _NVIDIA_GPUS.is_dir() else []
