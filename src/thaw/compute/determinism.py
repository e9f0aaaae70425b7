"""Only algorithms that give the same bytes every time."""

import os

import torch

from thaw.params import FLOAT32, ComputeParams


def make_deterministic(compute: ComputeParams = FLOAT32) -> None:
    """Let torch use only algorithms that give the same bytes every time, and `compute.threads` threads.

    It raises where it has no such algorithm. Sums are divided among threads, so their last bits depend on the number;
    hence it comes from params.yaml, and neither from the machine nor from OMP_NUM_THREADS.

    Call it before the first computation: cuBLAS reads its workspace setting when it starts
    (https://docs.pytorch.org/docs/stable/notes/randomness.html).
    """
    torch.set_num_threads(compute.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms does, which also tells torch.compile's inductor and imports it for that: 1.4 s.
    torch.set_deterministic_debug_mode("error")
    if compute.compile:
        torch.use_deterministic_algorithms(True)
    # It would fill all new memory with NaN, a seventh of the time, against code that reads what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # Else float32 would mean 10 bits of a number's 23 in a GPU's convolutions; bfloat16 is there for speed.
    torch.backends.cudnn.allow_tf32 = False
