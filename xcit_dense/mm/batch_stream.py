"""Going on in the middle of the data without loading what came before."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from torch.utils.data import DataLoader

KEPT_SETTINGS = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
)


class ContinuedBatches:
    """A batch sampler whose first pass is the rest of one that has begun.

    Args:
        batch_sampler: the batch sampler of all later passes.
        rest: the batches of indices that are left of the first.
    """

    def __init__(self, batch_sampler: Any, rest: Iterator[list[int]]) -> None:
        self.batch_sampler = batch_sampler
        self.sampler = batch_sampler.sampler
        self.batch_size = batch_sampler.batch_size
        self._rest = rest

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of one pass."""
        # the rest goes to the first iterator that is used: torch makes two and uses the second
        rest, self._rest = self._rest, None
        yield from self.batch_sampler if rest is None else rest

    def __len__(self) -> int:
        """The number of batches of a whole pass."""
        return len(self.batch_sampler)


class BatchStream:
    """The batches of an iteration loop from some iteration on, pass after pass.

    It takes the place of ``dataloader_iterator`` in mmengine's loop.

    Args:
        dataloader: where the batches come from.
        first_pass: number of the pass that ``dataloader`` goes on with.
        empty_steps: how many steps yield None, for a loop that throws the used batches away.
    """

    def __init__(self, dataloader: DataLoader, first_pass: int, empty_steps: int = 0) -> None:
        self._batches = _passes(dataloader, first_pass)
        self._empty_steps = empty_steps

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> Any:
        if self._empty_steps > 0:
            self._empty_steps -= 1
            return None
        return next(self._batches)

    def skip_iter(self, num_iters: int) -> None:
        """Do nothing, since the stream begins behind the used batches; called by newer loops."""


def skip_batches(dataloader: DataLoader, used: int, first_pass: int) -> tuple[DataLoader, int]:
    """Skip batches by going through their indices; no sample is loaded.

    Args:
        dataloader: the data loader; of no use afterwards.
        used: how many batches to skip, of as many passes as they fill.
        first_pass: number of the pass that the first of them belongs to.

    Returns:
        A data loader that goes on behind the used batches, and the number of its first pass.
    """
    batch_sampler = dataloader.batch_sampler
    _empty(batch_sampler)
    for number in count(first_pass):
        _set_pass(dataloader, number)
        batches = iter(batch_sampler)
        used -= sum(1 for _ in islice(batches, used))
        if used == 0:
            break
    settings = {name: getattr(dataloader, name) for name in KEPT_SETTINGS}
    rest = ContinuedBatches(batch_sampler, batches)
    return DataLoader(dataloader.dataset, batch_sampler=rest, **settings), number


def _empty(batch_sampler: Any) -> None:
    """Empty a batch sampler that keeps draws until a batch is full, as mmdet's do.

    Upstream's loop starts its workers when it is made, and they have drawn ahead.
    """
    sampler, batch_sampler.sampler = batch_sampler.sampler, ()
    for _ in batch_sampler:
        pass  # at the end of its draws it gives away what it kept
    batch_sampler.sampler = sampler


def _passes(dataloader: DataLoader, first_pass: int) -> Iterator[Any]:
    for number in count(first_pass):
        _set_pass(dataloader, number)
        yield from dataloader


def _set_pass(dataloader: DataLoader, number: int) -> None:
    """Tell a finite sampler which order comes next; one without end knows by itself."""
    sampler = dataloader.batch_sampler.sampler
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(number)
