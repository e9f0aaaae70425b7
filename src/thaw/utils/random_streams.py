"""Random numbers from generators that depend on nothing but their names."""

import hashlib
from collections.abc import Iterable

import numpy as np


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """A generator that depends on nothing but its name: the same for each variant, thread and machine.

    Philox is counter-based (Salmon et al., SC 2011), so thousands of streams cost nothing to start.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *key])))


def uniform_of(name: str) -> float:
    """A number in [0, 1) that is a hash of `name`: a draw that depends on nothing else."""
    # 53 bits are what a float holds exactly.
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 11) / 2**53


def shuffle_names(names: Iterable[str], *, draw: str) -> list[str]:
    """The names in an order that depends on themselves and on what the draw is called, and on nothing else.

    One name more or less leaves the order of the others as it is.
    """
    return sorted(names, key=lambda name: (uniform_of(f"{draw}:{name}"), name))
