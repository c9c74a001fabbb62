"""A model of two layers and a data set of noise, trained by mmengine in this process."""

import random

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

import xcit_dense.mm.mmengine_patches
import xcit_dense.mm.training  # noqa: F401

LOADED = []  # indices that this process loaded


@pytest.fixture(autouse=True, scope="session")
def _unformatted_configs():
    """Leave out the layout of configs in logs and checkpoints, a third of the time of a run."""
    with pytest.MonkeyPatch.context() as patch:
        unformatted = lambda text, **_: (text, False)  # noqa: E731
        patch.setattr("mmengine.config.config.FormatCode", unformatted, raising=False)
        yield


class ToyImages(Dataset):
    """Images of two shapes, augmented with the random numbers of three libraries."""

    metainfo = {  # noqa: RUF012
        "palette": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "more": ConfigDict(of=ConfigDict(the="config")),
    }

    def __init__(self, size=22, bad=()):
        self.size = size
        self.bad = set(bad)

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        return {"width": 8, "height": 6 if index % 3 else 9}

    def __getitem__(self, index):
        assert type(index) is int
        LOADED.append(index)
        image = torch.full((3, 8, 8), float(index) / self.size)
        image += random.random() + np.random.rand() + torch.rand(1)
        if index in self.bad:
            image.fill_(float("nan"))
        sample = BaseDataElement(metainfo={"img_path": f"images/{index}.jpg"})
        return {"inputs": image, "data_samples": sample}


class ToyModel(BaseModel):
    """Convolution, norm, dropout; its loss looks at nothing but itself."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.3)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        features = self.dropout(self.norm(self.convolution(torch.stack(inputs))))
        if mode == "loss":
            return {"loss_square": features.float().square().mean(), "mean": features.mean()}
        return [BaseDataElement() for _ in inputs]


class ToyMetric(BaseMetric):
    """Draws random numbers, as a careless validation would; a score of NumPy's, always the same."""

    default_prefix = "toy"

    def process(self, data_batch, data_samples):
        self.results += [random.random() + np.random.rand() + torch.rand(1).item()]

    def compute_metrics(self, results):
        return {"noise": sum(results), "score": np.float32(1)}


class StopAt(Hook):
    """Raises like a killed process, behind all other hooks of an iteration."""

    priority = "LOWEST"

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


@pytest.fixture
def toy_runner(tmp_path, monkeypatch):
    """Makes a runner of the toy model; keywords replace those of Runner or of the train loader."""
    monkeypatch.chdir(tmp_path)
    LOADED.clear()

    def make(name="run", *, by_epoch=False, length=12, val_interval=5, stop=None, hooks=(),
             workers=0, kind=Runner, checkpoint=(), **more):  # fmt: skip
        sampler = "ResumableSampler" if by_epoch else "ResumableInfiniteSampler"
        loader = {"sampler": {"type": sampler}, "dataset": ToyImages(), "batch_size": 4}
        loader |= {key: more.pop(key) for key in (*loader, "batch_sampler") if key in more}
        loader |= {"num_workers": workers, "persistent_workers": workers > 0}
        length_key = "max_epochs" if by_epoch else "max_iters"
        torch.manual_seed(0)  # of the first weights; the Runner's seed comes too late for them
        options = {
            "work_dir": str(tmp_path / name),
            "val_dataloader": {
                "batch_size": 2,
                "num_workers": 0,
                "sampler": {"type": "DefaultSampler", "shuffle": False},
                "dataset": ToyImages(4),
            },
            "val_evaluator": Evaluator(ToyMetric()),
            "train_cfg": {"by_epoch": by_epoch, "val_interval": val_interval, length_key: length},
            "val_cfg": {},
            "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.01}},
            "param_scheduler": {
                "type": "PolyLR",
                "end": length,
                "by_epoch": by_epoch,
                "convert_to_iter_based": by_epoch,
            },
            "default_hooks": {
                "checkpoint": {
                    "type": "AtomicCheckpointHook",
                    "by_epoch": False,
                    "interval": 1,
                    **dict(checkpoint),
                },
                "logger": {"type": "LoggerHook", "interval": 1000},
            },
            "custom_hooks": [
                {"type": "RepeatableTrainingHook"},
                *hooks,
                *([StopAt(stop)] if stop else []),
            ],
            "default_scope": "mmengine",
            "log_level": "ERROR",
            "cfg": Config(),
            "experiment_name": f"{tmp_path.name}_{name}",
            **more,
        }
        made.append(kind(model=ToyModel(), train_dataloader=loader, **options))
        return made[-1]

    made = []
    make.loaded = LOADED
    make.images = ToyImages
    yield make
    for runner in made:  # end their workers, for which Python would wait ten seconds
        if not isinstance(runner._train_loop, dict):
            runner.train_loop.dataloader_iterator = None
            runner.train_loop.dataloader._iterator = None


@pytest.fixture
def same_end():
    """Asserts that two checkpoints hold the same state of a training, bit by bit."""

    def compare(first, second):
        ends = [torch.load(path, weights_only=False) for path in (first, second)]
        assert ends[0]["meta"]["seed"] == ends[1]["meta"]["seed"]
        assert ends[0].keys() == ends[1].keys()
        for part in ends[0].keys() - {"meta", "message_hub"}:
            assert torch.equal(*(torch.cat(list(numbers(end[part]))) for end in ends)), part

    def numbers(state):
        if isinstance(state, dict):
            state = [state[name] for name in sorted(state, key=str)]
        if isinstance(state, (list, tuple)):
            for value in state:
                yield from numbers(value)
        elif isinstance(state, (bool, int, float, torch.Tensor)):
            yield torch.as_tensor(state, dtype=torch.float64).flatten()

    return compare
