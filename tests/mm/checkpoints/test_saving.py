"""A complete checkpoint is there at every moment, and says from where a failed run goes on."""

import errno
import itertools
import logging
import os
from pathlib import Path

import mmengine.hooks.checkpoint_hook
import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import save_checkpoint

from xcit_dense.errors import UserError
from xcit_dense.mm import checkpoints
from xcit_dense.mm.checkpoints import newest_first, newest_resumable
from xcit_dense.weights.safe_loading import load_from_local

NUMBERS = itertools.count()


class Run:
    """What the hook sees of mmengine's runner."""

    def __init__(self, work_dir):
        self.work_dir, self.epoch, self.iter, self.max_epochs = str(work_dir), 0, 0, -1
        self.logger = logging.getLogger("run")
        self.message_hub = MessageHub(f"run{next(NUMBERS)}")
        self.saving = []  # what is in the work dir each time that a file is saved

    def save_checkpoint(self, out_dir, filename, file_client_args=None, **options):
        self.saving.append(names(out_dir) if os.path.isdir(out_dir) else [])
        content = {
            "meta": dict(options["meta"]),
            "state_dict": {"w": torch.full((9,), float(self.epoch))},
            "message_hub": self.message_hub.state_dict(),
            "optimizer": {},
        }
        self.hook.before_save_checkpoint(self, content)
        save_checkpoint(content, os.path.join(out_dir, filename))


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def start(work_dir, **options):
    run = Run(work_dir)
    run.hook = HOOKS.build({"type": "AtomicCheckpointHook", "interval": 1, **options})
    run.hook.before_train(run)
    return run


def train(run, *scores):
    """An epoch for each score, with validation where there is one."""
    for score in scores:
        run.hook.after_train_epoch(run)
        run.epoch += 1
        if score is not None:
            run.hook.after_val_epoch(run, score if isinstance(score, dict) else {"score": score})


class TestOrder:
    def test_the_old_checkpoint_goes_after_the_new_one_is_recorded(self, tmp_path):
        run = start(tmp_path, max_keep_ckpts=1)
        train(run, None, None, None)
        assert run.saving[1:] == [[f"epoch_{epoch}.pth", "last_checkpoint"] for epoch in (1, 2)]
        assert names(tmp_path) == ["epoch_3.pth", "last_checkpoint"]
        assert newest_first(tmp_path) == [str(tmp_path / "epoch_3.pth")]

    def test_the_best_checkpoint_goes_after_the_new_best_is_complete(self, tmp_path):
        run = start(tmp_path, max_keep_ckpts=1, save_best="score", rule="greater")
        train(run, 1.0, 0.5, 2.0)
        assert all("best_score_epoch_1.pth" in seen for seen in run.saving[2:])
        assert names(tmp_path) == ["best_score_epoch_3.pth", "epoch_3.pth", "last_checkpoint"]
        last = load_from_local(tmp_path / "epoch_3.pth")
        hub = last["message_hub"]["runtime_info"]
        assert hub["best_ckpt"] == str(tmp_path / "best_score_epoch_3.pth")
        assert last["meta"] == {"epoch": 3, "iter": 0}

    def test_the_best_of_several_metrics(self, tmp_path):
        run = start(tmp_path, save_best=["a", "b"], rule="greater")
        train(run, {"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 0.5})
        assert names(tmp_path)[:2] == ["best_a_epoch_2.pth", "best_b_epoch_1.pth"]


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


FAULTS = {
    "writing": (checkpoints, "write_atomically"),
    "flushing to the disk": (os, "fsync"),
    "renaming": (os, "replace"),
    "recording": (mmengine.hooks.checkpoint_hook, "open"),
    "removing": (LocalBackend, "remove"),
}


class TestFailures:
    @pytest.mark.parametrize("step", FAULTS)
    def test_whatever_step_fails_a_complete_checkpoint_stays(
        self, step, tmp_path, monkeypatch, capsys
    ):
        run = start(tmp_path, max_keep_ckpts=1)
        train(run, None)
        with monkeypatch.context() as patch:
            patch.setattr(*FAULTS[step], full, raising=False)
            with pytest.raises(OSError if step == "removing" else UserError, match="No space left"):
                train(run, None)
        saved = {"recording": 1, "removing": 2}.get(step, 1)
        assert newest_resumable(tmp_path) == str(tmp_path / f"epoch_{saved}.pth")
        assert capsys.readouterr().err == ""
        assert all(name.startswith(("epoch_", "last")) for name in names(tmp_path))

    def test_the_error_says_how_to_go_on(self, tmp_path, monkeypatch):
        run = start(tmp_path, save_best="score", rule="greater")
        with monkeypatch.context() as patch, pytest.raises(UserError, match=r"no other.*--resume"):
            patch.setattr(os, "fsync", full)
            train(run, None)
        train(run, 1.0)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=rf"No space left.*{tmp_path}/epoch_1\.pth is complete"):
            run.hook.after_val_epoch(run, {"score": 2.0})
        assert "best_score_epoch_1.pth" in names(tmp_path)
