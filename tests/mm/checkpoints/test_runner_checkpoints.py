"""Whatever mmengine's runners write, they load again under protection, and go on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

import xcit_dense  # noqa: F401
from xcit_dense.mm import atomic_saving
from xcit_dense.weights.safe_loading import load_local_checkpoint

SCHEDULERS = [
    {"type": "LinearLR", "start_factor": 0.1, "end": 2},
    {"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 100},
    {"type": "CosineAnnealingLR", "T_max": 10},
    {"type": "MultiStepLR", "milestones": [1]},
    {"type": "PolyLR", "power": 1},
    {"type": "StepLR", "step_size": 2},
    {"type": "ExponentialLR", "gamma": 0.9},
    {"type": "ConstantLR"},
    {"type": "CosineRestartLR", "periods": [2, 2], "restart_weights": [1, 1], "eta_min": 0},
    {"type": "ReduceOnPlateauLR", "monitor": "score", "rule": "greater"},
    {"type": "CosineAnnealingMomentum", "T_max": 4},
]


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))

    def forward(self, values, mode="tensor"):
        output = self.layers(torch.stack(values))
        return {"loss": output.pow(2).mean()} if mode == "loss" else [output]


class Data(torch.utils.data.Dataset):
    def __init__(self):
        self.metainfo = {
            "classes": ("a", "b"),
            "palette": np.arange(6, dtype=np.uint8).reshape(2, 3),
            "more": ConfigDict(of=ConfigDict(the="config")),
        }

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"values": torch.full((4,), float(index))}


class Metric(BaseMetric):
    default_prefix = ""
    score = 0

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        Metric.score += 1
        return {"score": np.float32(Metric.score)}


def build(runner, work_dir, epochs, **options):
    loader = {
        "batch_size": 2,
        "num_workers": 0,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": Data(),
    }
    return runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": epochs, "val_interval": 1},
        val_cfg={},
        val_evaluator=Evaluator(Metric()),
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.01}},
        param_scheduler=None if runner is FlexibleRunner else SCHEDULERS,
        default_hooks={
            "checkpoint": {
                "type": "AtomicCheckpointHook",
                "interval": 1,
                "max_keep_ckpts": 2,
                "save_best": "score",
                "rule": "greater",
                "published_keys": ["meta", "state_dict"],
            }
        },
        custom_hooks=[] if runner is FlexibleRunner else [{"type": "EMAHook"}],
        default_scope="mmengine",
        experiment_name=f"{runner.__name__}_{work_dir}_{epochs}",
        log_level="ERROR",
        **options,
    )


def files(work_dir):
    return sorted(path.name for path in Path(work_dir).glob("*.pth"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("runner", [Runner, FlexibleRunner])
def test_a_run_is_saved_whole_and_resumed(runner, tmp_path, monkeypatch):
    written = []
    write = atomic_saving.write_atomically

    def recording(path, writer):
        written.append(Path(path).name)
        write(path, writer)

    monkeypatch.setattr(atomic_saving, "write_atomically", recording)
    build(runner, tmp_path, epochs=3).train()
    assert {"epoch_1.pth", "best_score_epoch_3.pth", "last_checkpoint"} <= set(written)
    assert set(files(tmp_path)) <= set(written)  # the published ones too
    assert "epoch_1.pth" not in files(tmp_path)
    meta = load_local_checkpoint(str(tmp_path / "epoch_3.pth"))["meta"]
    assert (meta["epoch"], meta["iter"]) == (3, 6)

    resumed = build(runner, tmp_path, epochs=5, resume=True)
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (5, 10)
    assert [name for name in files(tmp_path) if name.startswith("epoch") and "-" not in name] == [
        "epoch_4.pth",
        "epoch_5.pth",
    ]
    last = load_local_checkpoint(str(tmp_path / "epoch_5.pth"))
    assert last["meta"]["dataset_meta"]["more"] == {"of": {"the": "config"}}
    assert len(last["message_hub"]["log_scalars"]["train/loss"].data[0]) == 10


@pytest.mark.filterwarnings("ignore")
def test_resuming_runs_no_config_from_the_checkpoint(tmp_path):
    """mmengine runs the text in ``meta['config']``."""
    build(Runner, tmp_path, epochs=1).train()
    checkpoint = load_local_checkpoint(str(tmp_path / "epoch_1.pth"))
    checkpoint["meta"]["config"] = f"open({str(tmp_path / 'trace')!r}, 'w')"
    torch.save(checkpoint, tmp_path / "epoch_1.pth")
    build(Runner, tmp_path, epochs=2, resume=True).train()
    assert not (tmp_path / "trace").exists()
