"""Runs go on from the newest checkpoint that loads; whatever runners write, they load again."""

import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

from xcit_dense.errors import UserError
from xcit_dense.mm import resuming
from xcit_dense.mm.resuming import (
    check_checkpoints,
    newest_resumable,
    use_atomic_checkpoints,
    use_resume,
)
from xcit_dense.weights.safe_loading import load_from_local


def save(path, **content):
    whole = {"meta": {"epoch": 1}, "state_dict": {"w": torch.ones(9)}, "message_hub": {}}
    torch.save(content or whole, path)
    os.utime(path, ns=(0, save.clock))  # file systems may count time coarsely
    save.clock += 10**9
    return str(path)


save.clock = 10**18


def record(work_dir, path):
    (work_dir / "last_checkpoint").write_text(str(path))


class TestNewest:
    def test_a_new_work_dir_has_none(self, tmp_path):
        assert newest_resumable(tmp_path) == (None, [])
        assert newest_resumable(tmp_path / "nowhere") == (None, [])

    def test_the_recorded_one_is_taken_also_where_the_work_dir_has_moved(self, tmp_path):
        recorded = save(tmp_path / "epoch_2.pth")
        save(tmp_path / "epoch_3.pth")
        for path in (recorded, "/before/it/moved/epoch_2.pth"):
            record(tmp_path, path)
            assert newest_resumable(tmp_path) == (recorded, [])

    @pytest.mark.parametrize("content", ["", "/no/where/other.pth"])
    def test_a_record_that_leads_nowhere(self, content, tmp_path):
        record(tmp_path, content)
        for name in ("iter_900.pth", "epoch_9.pth", "epoch_10.pth", "best_epoch_11.pth", "own.pth"):
            save(tmp_path / name)
        newest, problems = newest_resumable(tmp_path)
        assert newest == str(tmp_path / "epoch_10.pth")
        assert len(problems) == bool(content)

    def test_damaged_ones_are_left_out_and_named(self, tmp_path):
        one, two, three = (save(tmp_path / f"epoch_{epoch}.pth") for epoch in (1, 2, 3))
        os.truncate(two, 100)
        os.truncate(three, 100)
        record(tmp_path, three)
        newest, problems = newest_resumable(tmp_path)
        assert newest == one
        assert [problem.split(":")[0] for problem in problems] == [three, two]


class TestConfigs:
    def config(self, work_dir, **values):
        return Config(
            {"work_dir": str(work_dir), "load_from": "detector.pth", "model": {}, **values}
        )

    def test_a_new_work_dir_starts_from_what_the_config_names(self, tmp_path, capsys):
        cfg = self.config(tmp_path, resume=True)
        use_resume(cfg, "auto")
        assert (cfg.resume, cfg.load_from) == (False, "detector.pth")
        assert "starts anew" in capsys.readouterr().err

    def test_what_is_passed_over_is_named(self, tmp_path, capsys):
        whole, damaged = save(tmp_path / "iter_1.pth"), tmp_path / "iter_2.pth"
        damaged.touch()
        record(tmp_path, damaged)
        cfg = self.config(tmp_path)
        use_resume(cfg, "auto")
        assert (cfg.resume, cfg.load_from) == (True, whole)
        warning, last = capsys.readouterr().err.splitlines()
        assert str(damaged) in warning
        assert whole in last

    def test_a_checkpoint_is_read_once_until_it_changes(self, tmp_path, monkeypatch):
        reads = []
        load = lambda path, **options: reads.append(path) or load_from_local(path, **options)  # noqa: E731
        monkeypatch.setattr(resuming, "load_from_local", load)
        path = save(tmp_path / "epoch_1.pth")
        cfg = self.config(tmp_path)
        use_resume(cfg, "auto")
        for _ in range(2):
            check_checkpoints(cfg)
        assert reads == [path]
        save(path, state_dict={})
        with pytest.raises(UserError, match=rf"{path}.*weights only.*load_from={path}"):
            check_checkpoints(cfg)

    def test_every_checkpoint_that_a_config_names_is_checked(self, tmp_path):
        pretrained = {"type": "Pretrained", "checkpoint": f"{tmp_path}/backbone.pth"}
        model = {"backbone": {"init_cfg": pretrained}, "neck": {"init_cfg": {"type": "Normal"}}}
        cfg = self.config(tmp_path, model=model, load_from="https://example.invalid/file.pth")
        with pytest.raises(FileNotFoundError, match=r"backbone\.pth"):
            check_checkpoints(cfg)
        save(tmp_path / "backbone.pth", w=torch.ones(1))
        check_checkpoints(cfg)

    @pytest.mark.parametrize(
        ("hook", "expected"),
        [
            ({"type": "CheckpointHook", "interval": 7}, {"interval": 7}),
            ({"type": CheckpointHook}, {}),
            ("none of its own", {"interval": 1}),
            ({"type": "OwnHook"}, None),
            (None, None),
        ],
    )
    def test_hooks_of_mmengine_become_ours(self, hook, expected):
        cfg = Config({} if isinstance(hook, str) else {"default_hooks": {"checkpoint": hook}})
        use_atomic_checkpoints(cfg)
        if expected is not None:
            hook = {"type": "AtomicCheckpointHook", **expected}
        assert cfg.default_hooks.checkpoint == hook


SCHEDULERS = [
    {"type": "LinearLR", "start_factor": 0.1, "end": 2},
    {"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 100},
    {"type": "MultiStepLR", "milestones": [1]},
    {"type": "PolyLR", "power": 1},
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
    metainfo = {  # noqa: RUF012
        "palette": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "more": ConfigDict(of=ConfigDict(the="config")),
    }

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"values": torch.full((4,), float(index))}


class Metric(BaseMetric):
    default_prefix = ""

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return {"score": np.float32(1)}


def train(runner, work_dir, **options):
    sampler = {"type": "DefaultSampler", "shuffle": False}
    loader = {"batch_size": 2, "num_workers": 0, "sampler": sampler, "dataset": Data()}
    hook = {"type": "AtomicCheckpointHook", "interval": 1}
    best = {"save_best": "score", "rule": "greater", "published_keys": ["meta", "state_dict"]}
    if runner is Runner:  # the other has neither
        options = {"param_scheduler": SCHEDULERS, "custom_hooks": [{"type": "EMAHook"}], **options}
    torch.manual_seed(0)
    run = runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": 4, "val_interval": 1},
        val_cfg={},
        val_evaluator=Evaluator(Metric()),
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.01}},
        default_hooks={"checkpoint": hook | best},
        default_scope="mmengine",
        experiment_name=f"{runner.__name__}_{work_dir}",
        log_level="ERROR",
        randomness={"seed": 0},
        **options,
    )
    run.train()
    return load_from_local(work_dir / "epoch_4.pth")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("runner", [Runner, FlexibleRunner])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(runner, tmp_path):
    whole = train(runner, tmp_path / "whole")
    (tmp_path / "resumed").mkdir()
    shutil.copy(tmp_path / "whole/epoch_1.pth", tmp_path / "resumed")
    # saved anew after validation, when mmengine's FlexibleRunner counts an epoch too many
    interrupted = str(tmp_path / "resumed/epoch_1.pth")
    resumed = train(runner, tmp_path / "resumed", resume=True, load_from=interrupted)
    for run in (whole, resumed):
        assert (run["meta"]["epoch"], run["meta"]["iter"]) == (4, 8)
    assert resumed["meta"]["dataset_meta"]["more"] == {"of": {"the": "config"}}
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    losses = [run["message_hub"]["log_scalars"]["train/loss"].data[0] for run in (whole, resumed)]
    assert np.array_equal(*losses)
    assert len(losses[0]) == 8
