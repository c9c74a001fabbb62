"""Runs go on from the newest checkpoint that loads; whatever runners write, they load again."""

import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import FlexibleRunner, Runner

from xcit_dense.errors import UserError
from xcit_dense.mm.resuming import check_checkpoints, newest_resumable, use_resume
from xcit_dense.mm.saving import use_atomic_checkpoints
from xcit_dense.weights.safe_loading import load_from_local


def save(path, **content):
    whole = {
        "meta": {"epoch": 1, "iter": 9},
        "state_dict": {"w": torch.ones(9)},
        "message_hub": {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}},
        "optimizer": {},
    }
    torch.save(content or whole, path)
    os.utime(path, ns=(0, save.clock))  # file systems may count time coarsely
    save.clock += 10**9
    return str(path)


save.clock = 10**18


def record(work_dir, path):
    (work_dir / "last_checkpoint").write_text(str(path))


class TestNewest:
    def test_the_recorded_one_is_taken_also_where_the_work_dir_has_moved(self, tmp_path):
        recorded = save(tmp_path / "epoch_2.pth")
        save(tmp_path / "epoch_3.pth")
        for path in (recorded, "/before/it/moved/epoch_2.pth"):
            record(tmp_path, path)
            assert newest_resumable(tmp_path) == recorded

    @pytest.mark.parametrize("content", ["", "/no/where/other.pth"])
    def test_a_record_that_leads_nowhere(self, content, tmp_path, capsys):
        record(tmp_path, content)
        for name in ("iter_900.pth", "epoch_9.pth", "epoch_10.pth", "best_epoch_11.pth", "own.pth"):
            save(tmp_path / name)
        assert newest_resumable(tmp_path) == str(tmp_path / "epoch_10.pth")
        assert capsys.readouterr().err.count("not resumed") == bool(content)


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

    def test_damaged_ones_are_left_out_and_named(self, tmp_path, capsys):
        one, two, three = (save(tmp_path / f"epoch_{epoch}.pth") for epoch in (1, 2, 3))
        os.truncate(two, 100)
        os.truncate(three, 0)
        record(tmp_path, three)
        cfg = self.config(tmp_path)
        use_resume(cfg, "auto")
        assert (cfg.resume, cfg.load_from) == (True, one)
        said = capsys.readouterr().err.splitlines()
        assert [path in line for path, line in zip((three, two, one), said, strict=True)] == [
            True
        ] * 3

    def test_every_checkpoint_that_a_config_names_is_checked(self, tmp_path):
        pretrained = {"type": "Pretrained", "checkpoint": f"{tmp_path}/backbone.pth"}
        model = {"backbone": {"init_cfg": pretrained}, "neck": {"init_cfg": {"type": "Normal"}}}
        cfg = self.config(tmp_path, model=model, load_from="https://example.invalid/file.pth")
        with pytest.raises(FileNotFoundError, match=r"backbone\.pth"):
            check_checkpoints(cfg)
        path = save(tmp_path / "backbone.pth", w=torch.ones(1))
        check_checkpoints(cfg)
        with pytest.raises(UserError, match=rf"{path}.*whole state of training.*load_from={path}"):
            use_resume(cfg, path)

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
    {"type": "CosineRestartLR", "periods": [2, 2], "restart_weights": [1, 1], "eta_min": 0},
    {"type": "ReduceOnPlateauLR", "monitor": "toy/score", "rule": "greater"},
    {"type": "CosineAnnealingMomentum", "T_max": 4},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [Runner, FlexibleRunner])
def test_whatever_runners_write_they_load_again(kind, toy_runner, tmp_path, monkeypatch):
    """From the checkpoint that is saved anew after validation, with all that mmengine keeps."""
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    best = {"by_epoch": True, "save_best": "toy/score", "rule": "greater"}
    options = {"by_epoch": True, "length": 3, "val_interval": 1, "kind": kind}
    options["checkpoint"] = best | {"published_keys": ["meta", "state_dict"]}
    if kind is Runner:  # the other has neither
        options |= {"param_scheduler": SCHEDULERS, "hooks": [{"type": "EMAHook"}]}
    toy_runner("whole", randomness={"seed": 0}, **options).train()
    (tmp_path / "resumed").mkdir()
    start = str(shutil.copy(tmp_path / "whole/epoch_1.pth", tmp_path / "resumed"))
    toy_runner("resumed", resume=True, load_from=start, randomness={"seed": 0}, **options).train()
    whole, resumed = (
        load_from_local(tmp_path / run / "epoch_3.pth") for run in ("whole", "resumed")
    )
    for run in (whole, resumed):
        assert (run["meta"]["epoch"], run["meta"]["iter"]) == (3, 18)
    assert resumed["meta"]["dataset_meta"]["more"] == {"of": {"the": "config"}}
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    losses = [run["message_hub"]["log_scalars"]["train/loss"].data[0] for run in (whole, resumed)]
    assert np.array_equal(*losses)
