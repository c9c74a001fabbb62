"""Draws: the same for the same place, whatever the processes, workers and passes before."""

import random
from itertools import islice

import mmengine.dataset
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from xcit_dense.mm.repeatable_training import ResumableInfiniteSampler, ResumableSampler


class Noise(Dataset):
    """Each sample is its index and random numbers of three libraries."""

    def __init__(self, size=10):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(1).item()


def use_process(monkeypatch, rank, world_size):
    monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda: (rank, world_size))


def samples(sampler_type, batch_size=4, batches=6, workers=0, seed=3, size=10):
    dataset = Noise(size)
    sampler = sampler_type(dataset, seed=seed)
    loader = DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=lambda batch: batch
    )
    return list(islice(loader, batches))


def seed_libraries():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


BOTH = pytest.mark.parametrize("sampler_type", [ResumableSampler, ResumableInfiniteSampler])


@BOTH
def test_seeds_and_draws_differ_and_workers_do_not(sampler_type):
    alone = samples(sampler_type)
    seed_libraries()
    assert samples(sampler_type, workers=2) == alone
    numbers = [sample[1:] for batch in alone for sample in batch]
    assert len({number for sample in numbers for number in sample}) == 3 * len(numbers)
    assert samples(sampler_type, seed=4) != alone


@BOTH
@pytest.mark.parametrize("size", [10, 11])
def test_two_processes_see_what_one_sees(monkeypatch, sampler_type, size):
    whole = samples(sampler_type, batch_size=4, batches=2, size=size)
    halves = []
    for rank in range(2):
        use_process(monkeypatch, rank, 2)
        halves.append(samples(sampler_type, batch_size=2, batches=2, size=size))
    for batch, *parts in zip(whole, *halves, strict=True):
        assert sorted(batch) == sorted(parts[0] + parts[1])


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"round_up": False}], ids=str)
def test_the_order_is_that_of_mmengine(monkeypatch, options):
    use_process(monkeypatch, 2, 3)
    ours = ResumableSampler(Noise(11), seed=2, **options)
    theirs = mmengine.dataset.DefaultSampler(Noise(11), seed=2, **options)
    for sampler in (ours, theirs):
        sampler.set_epoch(5)
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)


def test_the_endless_order_is_that_of_the_epochs():
    epochs, endless = (
        kind(Noise(), seed=2) for kind in (ResumableSampler, ResumableInfiniteSampler)
    )
    assert len(endless) == 10
    draws = iter(endless)
    for epoch in range(3):
        epochs.set_epoch(epoch)
        expected = [(draw, draw.key) for draw in epochs]
        assert [(draw, draw.key) for draw in islice(draws, 10)] == expected
    theirs = mmengine.dataset.InfiniteSampler(Noise(), seed=2)
    assert list(islice(endless, 10)) == list(islice(theirs, 10))


def test_plain_indices_are_loaded_as_ever():
    ResumableSampler(dataset := Noise(), seed=0)
    seed_libraries()
    expected = dataset[4]
    seed_libraries()
    assert dataset.__getitems__([4]) == [expected]
