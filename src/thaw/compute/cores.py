"""How many processor cores a process may use, and how its threads share them: working ahead, and without spinning.

This module imports no torch: what it says of spinning has to be said before torch is loaded.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

JOBS = "THAW_JOBS"
"""The variable by which `thaw repro` says how many stages it runs at once. No result depends on it."""

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def count_cores() -> int:
    """How many cores this process may use: those of its affinity (Linux), and no more than its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota())))


def count_own_cores() -> int:
    """This process's share of them where torchrun, or `thaw repro`, has started several on this machine."""
    return max(1, count_cores() // count_processes())


def count_processes() -> int:
    """How many processes share this machine: torchrun's, in each of the stages that `thaw repro` runs at once."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * int(os.environ.get(JOBS, "1"))


def avoid_spinning(threads: int) -> None:
    """Let threads that wait sleep, where this process will have more than cores; call it before torch is loaded.

    GNU's OpenMP lets them spin, which is faster on idle cores: on busy ones, two trainings with two threads each on two
    cores were four times slower together than one alone
    (https://gcc.gnu.org/onlinedocs/libgomp/OMP_005fWAIT_005fPOLICY.html).
    """
    if threads > count_own_cores():
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    """`map` in a pool, in order and lazily: `ahead` results are computed before they are asked for.

    So memory does not grow with `items`, which are taken from the calling thread.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # What was begun for nothing, since the caller or an item has failed.
        for future in waiting:
            future.cancel()


def _quota() -> float:
    """The cores whose time the container may use, by control groups (Linux), version 2 or 1; infinite if unlimited."""
    try:
        if _QUOTA.exists():
            limit, period = _QUOTA.read_text(encoding="ascii").split()
        else:
            limit, period = (path.read_text(encoding="ascii").strip() for path in _QUOTA_V1)
    except OSError:
        return math.inf
    return math.inf if limit in ("max", "-1") else int(limit) / int(period)
