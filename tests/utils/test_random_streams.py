"""Random numbers: they depend on the name of their stream, and on nothing else.

Run with `pytest tests/utils/test_random_streams.py`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.utils.random_streams import random_stream, uniform_of


def test_a_stream_depends_on_its_name_alone() -> None:
    first = random_stream(0, 1, 2).random(5)
    np.random.default_rng().random(100)
    assert np.array_equal(random_stream(0, 1, 2).random(5), first)


@pytest.mark.parametrize("other", [(1, 1, 2), (0, 2, 1), (0, 1), (0, 1, 2, 3)])
def test_another_name_is_another_stream(other: tuple[int, ...]) -> None:
    assert not np.array_equal(random_stream(*other).random(5), random_stream(0, 1, 2).random(5))


@given(st.text())
def test_a_draw_by_name_lies_in_its_interval_and_is_the_same_each_time(name: str) -> None:
    assert 0 <= uniform_of(name) < 1
    assert uniform_of(name) == uniform_of(name)


def test_draws_by_name_are_the_same_everywhere() -> None:
    # Golden values: a change of them would reshuffle everybody's splits.
    assert [uniform_of("0:a"), uniform_of("1:a")] == [0.6170009362330672, 0.2554167428112488]


def test_draws_by_name_are_spread_evenly() -> None:
    draws = [uniform_of(f"{number}") for number in range(10_000)]
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    # Five standard deviations of a binomial count.
    assert np.abs(counts - 1000).max() < 5 * (10_000 * 0.1 * 0.9) ** 0.5
