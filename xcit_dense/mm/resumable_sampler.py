"""Samplers whose order and augmentation depend on the place in the run and on nothing else."""

from collections.abc import Iterator, Sized
from itertools import count
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from xcit_dense.mm.random_streams import Purpose, seeded


class Draw(int):
    """An index of a data set that knows from which random numbers its sample is augmented.

    Args:
        index: index of the sample.
        key: numbers >= 0 that name this draw among all draws of all runs.
    """

    key: tuple[int, ...]

    def __new__(cls, index: int, key: tuple[int, ...]) -> "Draw":
        draw = super().__new__(cls, index)
        draw.key = key
        return draw

    def __getnewargs__(self) -> tuple[int, tuple[int, ...]]:
        return int(self), self.key


class SeededSamples:
    """Loads samples, each augmented with the random numbers of its draw.

    It becomes the ``__getitems__`` of a data set, by which torch's data loader fetches a batch, in
    a worker or in the main process.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, indices: list[int]) -> list[Any]:
        """Load the samples of a batch; plain integers are loaded as ever."""
        return [self._load(index) for index in indices]

    def _load(self, index: int) -> Any:
        if not isinstance(index, Draw):
            return self.dataset[index]
        with seeded(*index.key):
            return self.dataset[int(index)]


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
        dataset.__getitems__ = SeededSamples(dataset)

    def __iter__(self) -> Iterator[Draw]:
        """The draws of this process in the current epoch."""
        order = order_of_pass(len(self.dataset), self.shuffle, self.seed, self.epoch)
        for position in range(self.rank, self.total_size, self.world_size):
            key = (self.seed, Purpose.SAMPLE, self.epoch, position)
            yield Draw(order[position % len(order)], key)


@DATA_SAMPLERS.register_module()
class ResumableInfiniteSampler(Sampler):
    """The epochs of :class:`ResumableSampler` one after the other, without end.

    It takes the place of mmengine's ``InfiniteSampler``, whose order it has in the first pass
    through the data. An iterator of it always begins at the first draw;
    :class:`RepeatableTrainingHook` leads a resumed run to the next one.

    Args:
        dataset: the data set; gets an attribute ``__getitems__``.
        shuffle: another random order in each pass.
        seed: of order and augmentation, the same in all processes. None: a random one.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        dataset.__getitems__ = SeededSamples(dataset)

    def __iter__(self) -> Iterator[Draw]:
        """The draws of this process, without end."""
        size = len(self.dataset)
        current_pass = None
        for position in count(self.rank, self.world_size):
            number, offset = divmod(position, size)
            if number != current_pass:
                order = order_of_pass(size, self.shuffle, self.seed, number)
                current_pass = number
            yield Draw(order[offset], (self.seed, Purpose.SAMPLE, number, offset))

    def __len__(self) -> int:
        """The size of the data set."""
        return len(self.dataset)


def order_of_pass(size: int, shuffle: bool, seed: int, number: int) -> list[int]:
    """The order in which pass ``number`` goes through ``size`` samples, as mmengine has it."""
    if not shuffle:
        return list(range(size))
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed + number)).tolist()
