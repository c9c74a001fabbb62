"""Runs whose randomness depends on the place in the run and on nothing else.

So a run that was stopped and resumed ends in the weights of one that never was.
"""

import logging
import random
from collections.abc import Iterator, Sized
from copy import copy
from functools import partial
from itertools import chain, count, islice, repeat
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS, HOOKS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

PLACE = "epoch_begun"  # in the message hub, and with it in checkpoints
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


@HOOKS.register_module()
class RepeatableTrainingHook(Hook):
    """Makes an iteration depend on the seed and its number, not on the history of the process.

    Before each iteration the global random generators are seeded from (seed, iteration, rank), so
    that drop path, dropout or sampled proposals come out the same after a resume, and validation
    in between has no say. A resumed run takes over the seed of its checkpoint, and goes on behind
    the last batch used, in the middle of an epoch too, without loading what came before.

    The data do the same with :class:`ResumableSampler` or :class:`ResumableInfiniteSampler`.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:
        """Hand the seed of the run to the sampler, and lead a resumed run to its next batch."""
        seeds = [runner.seed]  # processes may have seeds of their own; that of the first counts
        broadcast_object_list(seeds)
        self._seed = seeds[0]
        loop = runner.train_loop
        by_iteration = isinstance(loop, IterBasedTrainLoop)
        wanted = ResumableInfiniteSampler if by_iteration else ResumableSampler
        sampler = getattr(loop.dataloader.batch_sampler, "sampler", None)
        if not isinstance(sampler, wanted):
            print_log(
                f"the data of this run are not repeatable: {type(sampler).__name__} draws them, "
                f"and a resumed run sees others. Use {wanted.__name__}",
                logger="current",
                level=logging.WARNING,
            )
            return
        reseeded = sampler.seed != self._seed
        sampler.seed = self._seed
        if not by_iteration:
            place = runner.message_hub.get_info(PLACE, {})
            if place.get("epoch") == runner.epoch:
                loop.dataloader = continued(loop.dataloader, runner.iter - place["iteration"])
        elif reseeded or runner.iter > 0:
            loop.dataloader = continued(loop.dataloader, runner.iter)
            # upstream's loop throws away as many as were used, the fork's calls skip_iter
            thrown_away = 0 if hasattr(loop.dataloader_iterator, "skip_iter") else runner.iter
            loop.dataloader_iterator = BatchesToCome(repeat(None, thrown_away), loop.dataloader)

    def before_train_epoch(self, runner: Any) -> None:
        """Note at which iteration the epoch began."""
        if runner.message_hub.get_info(PLACE, {}).get("epoch") != runner.epoch:
            place = {"epoch": runner.epoch, "iteration": runner.iter}
            runner.message_hub.update_info(PLACE, place)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed all that is random in the iteration."""
        seed_libraries(self._seed, ITERATION, runner.iter, get_rank())


def continued(dataloader: DataLoader, used: int) -> DataLoader:
    """A data loader that skips batches by going through their indices, and loads none of them.

    Args:
        dataloader: the data loader; of no use afterwards.
        used: how many batches to skip.
    """
    batch_sampler = ContinuedBatchSampler(dataloader.batch_sampler, used)
    copied = copy(dataloader)
    # torch refuses to set attributes of a data loader
    copied.__dict__.update(batch_sampler=batch_sampler, _iterator=None)
    return copied


class ContinuedBatchSampler:
    """A batch sampler whose first pass begins behind the batches that were used.

    Args:
        batch_sampler: the batch sampler; may be in the middle of a pass.
        used: how many batches to skip.
    """

    def __init__(self, batch_sampler: Any, used: int) -> None:
        self.batch_sampler = batch_sampler
        self.sampler = batch_sampler.sampler
        self.batch_size = batch_sampler.batch_size
        self._used = used
        # one that keeps draws until a batch is full, as mmdet's do, must forget them: upstream's
        # loop starts its workers when it is made, and they have drawn ahead
        batch_sampler.sampler = ()
        for _ in batch_sampler:
            pass  # at the end of its draws it gives away what it kept
        batch_sampler.sampler = self.sampler

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of indices of one pass."""
        # only the first iterator that is used skips: torch makes two and uses the second
        used, self._used = self._used, 0
        yield from islice(self.batch_sampler, used, None)

    def __len__(self) -> int:
        """The number of batches of a whole pass."""
        return len(self.batch_sampler)


class BatchesToCome(chain):
    """Stands for ``dataloader_iterator`` in mmengine's loop of iterations."""

    def skip_iter(self, num_iters: int) -> None:
        """Do nothing: the used batches are left out already."""
