"""Ranks: each image is some process's, and a stage starts itself again under a launcher.

Run with `pytest tests/utils/test_ranks.py`.
"""

import os
from collections.abc import Callable

import numpy as np
import pytest

from thaw.errors import ConfigError
from thaw.utils.ranks import local_batch_size, relaunch, shard_by_batch, shard_each_batch


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("images", [0, 1, 7, 10, 23])
def test_each_image_counts_once(as_process: Callable[[int, int], None], count: int, images: int) -> None:
    order = list(np.random.default_rng(0).permutation(images))
    dealt, shared = [], []
    for rank in range(count):
        as_process(rank, count)
        dealt += shard_by_batch(order, batch_size=4 if count < 5 else 5)
        mine, own_size = shard_each_batch(order, batch_size=5)
        for start in range(0, images, 5):
            own = local_batch_size(min(5, images - start))
            batch, mine = mine[:own_size], mine[own_size:]
            assert set(batch) <= set(order[start : start + 5])
            assert len(batch) == max(own, 1)
            shared += batch[:own]
    assert sorted(dealt) == sorted(order)
    assert sorted(shared) == sorted(order)


def test_a_batch_that_cannot_be_divided_says_what_to_set(as_process: Callable[[int, int], None]) -> None:
    as_process(0, 6)
    with pytest.raises(ConfigError, match=r"training\.batch_size: 5 images cannot be divided among 6 processes"):
        shard_each_batch(range(10), batch_size=5)


def test_a_launcher_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_LAUNCHER", "no-such-launcher --nodes 2")
    with pytest.raises(ConfigError, match="THAW_LAUNCHER names 'no-such-launcher', which cannot be started"):
        relaunch()
    assert "THAW_LAUNCHER" not in os.environ


def test_without_a_launcher_nothing_is_started() -> None:
    relaunch()
