"""Random numbers as a function of the place in a run, instead of all that was drawn before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What random numbers are for; keeps streams with otherwise equal keys apart."""

    SAMPLE = 0
    ITERATION = 1


def seed_libraries(*key: int, cpu_only: bool = False) -> None:
    """Seed Python's, NumPy's and torch's global generators from a key.

    The seeds are the words of ``numpy.random.SeedSequence(key)``, whose mixing is documented to
    be the same in every version of NumPy.

    Args:
        key: numbers >= 0 that name the place, such as seed, purpose, epoch, position.
        cpu_only: leave the generators of accelerators alone.
    """
    for_python, for_numpy, for_torch = map(int, np.random.SeedSequence(key).generate_state(3))
    random.seed(for_python)
    np.random.seed(for_numpy)
    (torch.default_generator if cpu_only else torch).manual_seed(for_torch)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed the CPU's generators from a key for a while, and put them back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_libraries(*key, cpu_only=True)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
