"""Images -> batches, prepared ahead in threads while the network computes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from thaw.compute.cores import count_own_cores
from thaw.data.decode import Pixels

View = Callable[[int], Pixels]
"""The index of an image -> its pixels as the network sees them, shape `(S, S, 3)` or, of K views, `(K, S, S, 3)`."""
BATCHES_AHEAD = 3


def batches(order: Sequence[int], view: View, *, batch_size: int) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Yield the images in `order`, a batch at a time, while threads prepare the next ones.

    Decoding and resizing release Python's lock, so threads use all cores and share one open archive. The result does
    not depend on which thread comes first.

    Yields:
        The indices of a batch and what `view` made of them, shape `(B, S, S, 3)`, uint8 (or `(B, K, S, S, 3)`).
    """
    groups = [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    with ThreadPoolExecutor(count_own_cores()) as pool:
        ahead: deque[list[Future[Pixels]]] = deque()
        try:
            for number, group in enumerate(groups):
                while len(ahead) < BATCHES_AHEAD and number + len(ahead) < len(groups):
                    ahead.append([pool.submit(view, index) for index in groups[number + len(ahead)]])
                yield group, np.stack([future.result() for future in ahead.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)
