"""A complete checkpoint is there at every moment, and says from where a failed run goes on."""

import errno
import itertools
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import save_checkpoint

from xcit_dense.errors import UserError
from xcit_dense.mm import mmengine_patches, saving
from xcit_dense.mm.resuming import newest_first, newest_resumable
from xcit_dense.weights.safe_loading import load_from_local

NUMBERS = itertools.count()


class Run:
    """What the hook sees of mmengine's runner."""

    def __init__(self, work_dir, load_from=None):
        self.work_dir, self.epoch, self.iter, self.max_epochs = str(work_dir), 0, 0, -1
        self._load_from = load_from and str(load_from)
        self.logger = logging.getLogger("run")
        self.message_hub = MessageHub(f"run{next(NUMBERS)}")
        if load_from:
            loaded = load_from_local(load_from)
            self.epoch = loaded["meta"]["epoch"]
            self.message_hub.load_state_dict(loaded["message_hub"])
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


def start(work_dir, load_from=None, **options):
    run = Run(work_dir, load_from)
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


BEST = {"save_best": "score", "rule": "greater", "max_keep_ckpts": 1}


class TestRemoving:
    """Only what the run wrote, in its folder, by the names that it gives."""

    @pytest.mark.parametrize("is_named", [True, False])
    def test_a_resumed_run_removes_what_it_left(self, tmp_path, is_named):
        train(start(tmp_path, **BEST), 1.0, 0.5)
        run = start(tmp_path, tmp_path / "epoch_2.pth", **BEST)
        if not is_named:  # mm's own tools take what last_checkpoint names
            run._load_from = None
            run.hook.before_train(run)
        train(run, 2.0)
        assert names(tmp_path) == ["best_score_epoch_3.pth", "epoch_3.pth", "last_checkpoint"]

    def test_a_resumed_run_removes_what_it_was_killed_before_removing(self, tmp_path):
        run = start(tmp_path, max_keep_ckpts=2)
        train(run, None, None)
        shutil.copy(tmp_path / "epoch_1.pth", tmp_path / "kept.pth")
        train(run, None)
        (tmp_path / "kept.pth").rename(tmp_path / "epoch_1.pth")  # as if killed
        for name in (".epoch_3.pth.partial", ".best_a_epoch_3.pth.partial", ".mine.partial"):
            (tmp_path / name).touch()
        start(tmp_path, tmp_path / "epoch_3.pth", max_keep_ckpts=2)
        (tmp_path / ".mine.partial").unlink()
        assert names(tmp_path) == ["epoch_2.pth", "epoch_3.pth", "last_checkpoint"]

    @pytest.mark.parametrize("whole_folder", [True, False])
    def test_the_original_of_a_copy_stays(self, tmp_path, whole_folder):
        train(start(tmp_path / "run", **BEST), 1.0, 0.5)
        before = names(tmp_path / "run")
        if whole_folder:
            shutil.copytree(tmp_path / "run", tmp_path / "copy")
            source = tmp_path / "copy/epoch_2.pth"
        else:  # another run is there, which has files of these names
            train(start(tmp_path / "copy", save_best="score", rule="greater"), 1.0, 0.5)
            source = tmp_path / "run/epoch_2.pth"
        train(start(tmp_path / "copy", source, **BEST), 2.0, None)
        assert names(tmp_path / "run") == before
        new = ["best_score_epoch_3.pth", "epoch_4.pth", "last_checkpoint"]
        old = [] if whole_folder else ["best_score_epoch_1.pth", "epoch_1.pth", "epoch_2.pth"]
        assert names(tmp_path / "copy") == sorted(new + old)

    @pytest.mark.parametrize(
        "named",
        [
            "../other/best_score_epoch_1.pth", "{}/other/best_score_epoch_1.pth", "best_notes.txt",
            "epoch_3.pth", "../run", "..", "", "other", None, 3, ["epoch_3.pth"],
        ],
    )  # fmt: skip
    def test_a_checkpoint_names_no_other_file(self, tmp_path, named):
        work_dir, other = tmp_path / "run", tmp_path / "other"
        train(start(work_dir, save_best="score", rule="greater"), None, None, None)
        (work_dir / "other").mkdir()
        other.mkdir()
        for path in (other / "best_score_epoch_1.pth", work_dir / "best_notes.txt"):
            path.touch()
        before = {path for path in tmp_path.rglob("*")}
        checkpoint = torch.load(work_dir / "epoch_2.pth", weights_only=False)
        named = named.format(tmp_path) if isinstance(named, str) else named
        checkpoint["message_hub"]["runtime_info"].update(
            best_ckpt=named, keep_ckpt_ids=[named, "../run/epoch_3", {}], best_score=0.0
        )
        torch.save(checkpoint, work_dir / "epoch_2.pth")
        train(start(work_dir, work_dir / "epoch_2.pth", **BEST), 1.0)
        assert before <= {path for path in tmp_path.rglob("*")}

    def test_one_name_for_all(self, tmp_path):
        options = {"filename_tmpl": "latest.pth", "save_best": "score", "rule": "greater"}
        train(start(tmp_path, max_keep_ckpts=3, **options), 1.0, None, None)
        train(start(tmp_path, tmp_path / "latest.pth", max_keep_ckpts=1, **options), None, 2.0)
        assert names(tmp_path) == ["best_score_latest.pth", "last_checkpoint", "latest.pth"]


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


FAULTS = {
    "writing": (saving, "write_atomically"),
    "flushing to the disk": (os, "fsync"),
    "renaming": (os, "replace"),
    "recording": (mmengine_patches, "write_atomically"),
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
