"""Samplers whose order and augmentation depend on the place in the run and on nothing else."""

import random
from collections.abc import Iterator, Sized
from functools import partial
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

# what random numbers are for; keeps streams with otherwise equal keys apart
SAMPLE, ITERATION = 0, 1


def seed_libraries(*key: int) -> None:
    """Seed Python's, NumPy's and torch's global generators from a key.

    The seeds are the words of ``numpy.random.SeedSequence(key)``, whose mixing is documented to
    be the same in every version of NumPy.

    Args:
        key: numbers >= 0 that name the place: seed, purpose, epoch, position.
    """
    for_python, for_numpy, for_torch = map(int, np.random.SeedSequence(key).generate_state(3))
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.manual_seed(for_torch)


class Draw(int):
    """An index of a data set that knows from which random numbers its sample is augmented."""

    key: tuple[int, ...]


def load_samples(dataset: Any, indices: list[int]) -> list[Any]:
    """Load the samples of a batch, each augmented with the random numbers of its draw.

    It becomes the ``__getitems__`` of a data set, by which torch's data loader fetches a batch, in
    a worker or in the main process. Plain indices are loaded as ever.
    """
    samples = []
    for index in indices:
        if isinstance(index, Draw):
            seed_libraries(*index.key)
        samples.append(dataset[int(index)])
    return samples


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` with the same order, and repeatable augmentation.

    Rank r of W processes takes positions r, r + W, ... of the order of an epoch. Order and
    augmentation are functions of (seed, epoch, position), so that 2 processes with 2 images each
    see what 1 process with 4 images sees, whatever the number of workers.

    Args:
        dataset: the data set; gets an attribute ``__getitems__``.
        shuffle: another random order in each epoch.
        seed: of order and augmentation, the same in all processes. None: a random one.
        round_up: repeat the first samples so that all processes have equally many.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True
    ) -> None:
        super().__init__(dataset, shuffle, seed, round_up)
        dataset.__getitems__ = partial(load_samples, dataset)

    def __iter__(self) -> Iterator[Draw]:
        """The draws of this process in the current epoch."""
        return islice(draws_of_epoch(self, self.epoch), self.rank, self.total_size, self.world_size)


@DATA_SAMPLERS.register_module()
class ResumableInfiniteSampler(ResumableSampler):
    """The epochs of :class:`ResumableSampler` one after the other, without end.

    It takes the place of mmengine's ``InfiniteSampler``, whose order it has in the first pass
    through the data. An iterator of it always begins at the first draw;
    :class:`RepeatableTrainingHook` leads a resumed run to the next one.

    Args:
        dataset, shuffle, seed: as in :class:`ResumableSampler`.
    """

    def __iter__(self) -> Iterator[Draw]:
        """The draws of this process, without end."""
        size = len(self.dataset)
        epochs = (islice(draws_of_epoch(self, epoch), size) for epoch in count())
        return islice(chain.from_iterable(epochs), self.rank, None, self.world_size)

    def __len__(self) -> int:
        """The size of the data set."""
        return len(self.dataset)


def draws_of_epoch(sampler: ResumableSampler, epoch: int) -> Iterator[Draw]:
    """The draws of all processes in an epoch, in mmengine's order, repeated without end."""
    size = len(sampler.dataset)
    order = range(size)
    if sampler.shuffle:
        generator = torch.Generator().manual_seed(sampler.seed + epoch)
        order = torch.randperm(size, generator=generator).tolist()
    for position in count():
        draw = Draw(order[position % size])
        draw.key = (sampler.seed, SAMPLE, epoch, position)
        yield draw
