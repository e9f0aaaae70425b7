"""Batches through a network that is not trained, several at once: one for every `compute.threads` cores.

Which thread computes a batch changes no bit of it, and neither does how many there are; how many threads compute one
batch together does.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from thaw.compute.cores import count_own_cores
from thaw.params import ComputeParams

Item = TypeVar("Item")
Result = TypeVar("Result")


def infer_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, compute: ComputeParams, device: torch.device
) -> Iterator[Result]:
    """Yield `function` of each item, in their order, in inference mode; a few are computed ahead.

    A GPU gets one batch at a time, as does code that torch.compile writes.

    Args:
        function: computes one batch; called from several threads, but alone the first time, since it may have things
            to lay out for all the others.
        items: the batches; taken from the calling thread.
        compute: how many threads compute one batch.
        device: which device.
    """
    workers = 1 if device.type != "cpu" or compute.compile else max(1, count_own_cores() // compute.threads)

    def infer(item: Item) -> Result:
        with torch.inference_mode():  # holds for one thread
            return function(item)

    # OpenMP keeps the number of threads for each thread that asks for some.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(compute.threads,)) as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for number, item in enumerate(items):
                ahead.append(pool.submit(infer, item))
                if number == 0 or len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
