"""Only algorithms that give the same bytes every time."""

import os

import torch


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
