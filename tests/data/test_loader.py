"""Batches: the right views in the right order, whatever the threads do.

Run with `pytest tests/data/test_loader.py`.
"""

import numpy as np
import pytest

from thaw.data.decode import Pixels
from thaw.data.loader import batches


@pytest.mark.parametrize("count", [0, 1, 4, 9, 40])
def test_batches_keep_the_order(count: int) -> None:
    def view(index: int) -> Pixels:
        return np.full((1, 1, 3), index, np.uint8)

    order = list(reversed(range(count)))
    seen = [(rows, views[:, 0, 0, 0].tolist()) for rows, views in batches(order, view, batch_size=4)]
    assert [row for rows, _ in seen for row in rows] == order
    assert all(rows == values for rows, values in seen)


def test_an_error_in_a_view_arrives() -> None:
    def view(index: int) -> Pixels:
        raise KeyError(index)

    with pytest.raises(KeyError):
        list(batches([1, 2], view, batch_size=1))
