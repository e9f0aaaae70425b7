"""How many stages at once, by cores or GPUs and by memory, and what each has to know."""

import os
from collections.abc import Sequence

import psutil

from thaw import paths
from thaw.compute.cores import JOBS, count_cores
from thaw.utils.atomic import read_json
from thaw.utils.ranks import LAUNCHER

MEMORY_OF_A_JOB_MIB = 1500.0
"""Where no training has been measured: EfficientNet-Lite0 at 96 px takes 900."""


def choose_jobs(*, threads: int, gpus: Sequence[str]) -> int:
    """One a GPU if there are any, else one for every `threads` cores; no more than memory allows.

    Where THAW_LAUNCHER starts several processes a stage, these have the whole machine.
    """
    if os.environ.get(LAUNCHER):
        return 1
    by_processors = len(gpus) or count_cores() // threads
    available_mib = psutil.virtual_memory().available / 2**20
    return max(1, min(by_processors, int(available_mib / measured_memory_mib())))


def measured_memory_mib() -> float:
    """The most that a training here has taken, as far as there have been any."""
    measured = [MEMORY_OF_A_JOB_MIB]
    for path in paths.COSTS.glob("*-*.json"):
        peak = read_json(path).get("peak_memory_mib")
        if isinstance(peak, float):
            measured.append(peak)
    return max(measured)


def environment_of_job(*, gpu: str | None, jobs: int, threads: int) -> dict[str, str]:
    """What a job has to know: its GPU, how many share the cores, and not to spin where threads are more than cores."""
    environment = {JOBS: str(jobs)}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    if jobs * threads > count_cores() and "OMP_WAIT_POLICY" not in os.environ:
        environment["OMP_WAIT_POLICY"] = "passive"
    return environment
