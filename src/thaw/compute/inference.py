"""Batches through a network that is not trained, several at once: one for every `compute.threads` cores.

Which thread computes a batch changes no bit of it, and neither does how many there are; how many threads compute one
batch together does.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch

from thaw.compute.cores import Item, Result, count_own_cores, map_ahead
from thaw.params import ComputeParams


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
        rest = iter(items)
        for first in islice(rest, 1):
            yield pool.submit(infer, first).result()
        yield from map_ahead(pool, infer, rest, ahead=workers)
