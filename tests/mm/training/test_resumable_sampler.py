"""Draws: the same for the same place, whatever the processes, workers and passes before."""

import pickle
import random
from itertools import islice

import mmengine.dataset
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, RepeatDataset
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from xcit_dense.mm.resumable_sampler import Draw, ResumableInfiniteSampler, ResumableSampler


class Noise(Dataset):
    """Each sample is its index and random numbers of three libraries."""

    def __init__(self, size=10):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(1).item()


def use_process(monkeypatch, rank, world_size):
    for module in ("mmengine.dataset.sampler", "xcit_dense.mm.resumable_sampler"):
        monkeypatch.setattr(f"{module}.get_dist_info", lambda: (rank, world_size))


def samples(sampler_type, batch_size=4, batches=6, workers=0, seed=3, size=10, epoch=0):
    dataset = Noise(size)
    sampler = sampler_type(dataset, seed=seed)
    if isinstance(sampler, ResumableSampler):
        sampler.set_epoch(epoch)
    loader = DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=lambda batch: batch
    )
    return list(islice(loader, batches))


BOTH = pytest.mark.parametrize("sampler_type", [ResumableSampler, ResumableInfiniteSampler])


@BOTH
def test_workers_change_nothing(sampler_type):
    random.seed(0)
    alone = samples(sampler_type)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert samples(sampler_type, workers=2) == alone


@BOTH
def test_seeds_and_draws_differ(sampler_type):
    numbers = [sample[1:] for batch in samples(sampler_type) for sample in batch]
    assert len({number for sample in numbers for number in sample}) == 3 * len(numbers)
    assert samples(sampler_type, seed=4) != samples(sampler_type)


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


def test_the_order_is_that_of_mmengine(monkeypatch):
    dataset = Noise(11)
    for rank in range(3):
        use_process(monkeypatch, rank, 3)
        for name in ("round_up", "shuffle"):
            for value in (True, False):
                ours = ResumableSampler(dataset, seed=2, **{name: value})
                theirs = mmengine.dataset.DefaultSampler(dataset, seed=2, **{name: value})
                for sampler in (ours, theirs):
                    sampler.set_epoch(5)
                assert list(ours) == list(theirs)
                assert len(ours) == len(theirs)


def test_the_endless_order_is_that_of_the_epochs():
    dataset = Noise()
    epochs = ResumableSampler(dataset, seed=2)
    draws = list(islice(ResumableInfiniteSampler(dataset, seed=2), 30))
    theirs = mmengine.dataset.InfiniteSampler(dataset, seed=2)
    assert draws[:10] == list(islice(theirs, 10))
    for epoch in range(3):
        epochs.set_epoch(epoch)
        expected = list(epochs)
        assert draws[epoch * 10 : epoch * 10 + 10] == expected
        assert [draw.key for draw in draws[epoch * 10 : epoch * 10 + 10]] == [
            draw.key for draw in expected
        ]


@BOTH
def test_loading_leaves_the_random_state_alone(sampler_type):
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    dataset = Noise()
    sampler = sampler_type(dataset, seed=0)
    dataset.__getitems__(list(islice(sampler, 3)))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


class NoiseRecords(BaseDataset):
    """mmengine's kind of data set, whose pipeline draws random numbers."""

    def __init__(self):
        super().__init__(pipeline=[lambda record: (record["sample_idx"], random.random())])

    def load_data_list(self):
        return [{} for _ in range(10)]


@pytest.mark.parametrize("wrap", [lambda d: ConcatDataset([d, d]), lambda d: RepeatDataset(d, 2)])
def test_wrapped_datasets(wrap):
    dataset = wrap(NoiseRecords())
    draws = list(ResumableSampler(dataset, seed=0))
    first, second = (dataset.__getitems__(draws) for _ in range(2))
    assert first == second
    assert [sample[0] for sample in first] == [draw % 10 for draw in draws]
    assert len(set(first)) == 20


def test_a_draw_travels_to_workers_and_plain_indices_pass():
    draw = pickle.loads(pickle.dumps(Draw(7, (1, 2))))
    assert (draw, draw.key) == (7, (1, 2))
    dataset = Noise()
    ResumableSampler(dataset, seed=0)
    assert pickle.loads(pickle.dumps(dataset)).__getitems__([draw]) == dataset.__getitems__([draw])
    random.seed(0)
    expected = random.random()
    random.seed(0)
    assert dataset.__getitems__([4])[0][:2] == (4, expected)


def test_an_endless_sampler_says_the_size_of_the_data():
    assert len(ResumableInfiniteSampler(Noise(9))) == 9
