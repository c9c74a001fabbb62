"""A complete checkpoint is there at every moment: while saving, after a kill, on a full disk."""

import errno
import logging
import os
import random
import resource
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import save_checkpoint

from xcit_dense.errors import UserError
from xcit_dense.mm.atomic_checkpoint_hook import AtomicCheckpointHook
from xcit_dense.mm.resuming import recorded_checkpoint
from xcit_dense.weights.safe_loading import load_local_checkpoint

TENSORS = 16


class Run:
    """What the hook sees of mmengine's runner; epoch ``i`` has weights that are all ``i``."""

    def __init__(self, work_dir, epoch=0):
        self.work_dir, self.epoch, self.iter, self.max_epochs = str(work_dir), epoch, epoch, -1
        self.logger = logging.getLogger("run")
        self.message_hub = MessageHub(f"run{random.random()}")
        self.saving = []  # what is in the work dir each time that a file is saved

    def save_checkpoint(self, out_dir, filename, file_client_args=None, **options):
        self.saving.append(names(out_dir) if os.path.isdir(out_dir) else [])
        epoch = options["meta"]["epoch"]
        weights = {str(i): torch.empty(4000).fill_(epoch) for i in range(TENSORS)}
        hub = self.message_hub.state_dict()
        content = {"meta": options["meta"], "state_dict": weights, "message_hub": hub}
        save_checkpoint(content, os.path.join(out_dir, filename))


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def start(work_dir, epoch=0, **options):
    run = Run(work_dir, epoch)
    hook = HOOKS.build({"type": "AtomicCheckpointHook", "interval": 1, **options})
    hook.before_train(run)
    return run, hook


def train(run, hook, epochs):
    for _ in range(epochs):
        hook.after_train_epoch(run)
        run.epoch += 1


def epoch_of(path):
    """The epoch of a checkpoint, which is the value of each of its weights."""
    checkpoint = load_local_checkpoint(path)
    epoch = checkpoint["meta"]["epoch"]
    assert len(checkpoint["state_dict"]) == TENSORS
    assert all(bool((weight == epoch).all()) for weight in checkpoint["state_dict"].values())
    return epoch


def test_it_is_registered():
    assert HOOKS.get("AtomicCheckpointHook") is AtomicCheckpointHook


class TestOrder:
    def test_the_old_checkpoint_goes_after_the_new_one_is_recorded(self, tmp_path):
        run, hook = start(tmp_path, max_keep_ckpts=1)
        train(run, hook, 3)
        assert run.saving[1:] == [
            ["epoch_1.pth", "last_checkpoint"],
            ["epoch_2.pth", "last_checkpoint"],
        ]
        assert names(tmp_path) == ["epoch_3.pth", "last_checkpoint"]
        assert recorded_checkpoint(tmp_path) == str(tmp_path / "epoch_3.pth")

    @pytest.mark.parametrize(
        ("kept", "expected"), [(2, [3, 4]), (10, [1, 2, 3, 4]), (-1, [1, 2, 3, 4])]
    )
    def test_as_many_as_wanted_are_kept(self, tmp_path, kept, expected):
        run, hook = start(tmp_path, max_keep_ckpts=kept)
        train(run, hook, 4)
        assert names(tmp_path)[:-1] == [f"epoch_{epoch}.pth" for epoch in expected]

    def test_the_best_checkpoint_goes_after_the_new_best_is_complete(self, tmp_path):
        run, hook = start(tmp_path, max_keep_ckpts=1, save_best="score", rule="greater")
        for score in (1.0, 0.5, 2.0):
            train(run, hook, 1)
            hook.after_val_epoch(run, {"score": score})
        assert all("best_score_epoch_1.pth" in seen for seen in run.saving[2:])
        assert names(tmp_path) == ["best_score_epoch_3.pth", "epoch_3.pth", "last_checkpoint"]
        hub = load_local_checkpoint(tmp_path / "epoch_3.pth")["message_hub"]
        assert hub["runtime_info"]["best_ckpt"] == str(tmp_path / "best_score_epoch_3.pth")

    def test_the_best_of_several_metrics(self, tmp_path):
        run, hook = start(tmp_path, save_best=["a", "b"], rule="greater")
        for scores in ((1.0, 1.0), (2.0, 0.5)):
            train(run, hook, 1)
            hook.after_val_epoch(run, dict(zip("ab", scores, strict=True)))
        assert names(tmp_path)[:2] == ["best_a_epoch_2.pth", "best_b_epoch_1.pth"]

    def test_what_a_killed_run_had_still_to_remove_is_removed_on_resuming(self, tmp_path):
        run, hook = start(tmp_path, max_keep_ckpts=1)
        hook._remove = lambda name: (_ for _ in ()).throw(KeyboardInterrupt)  # dies before removing
        with pytest.raises(KeyboardInterrupt):
            train(run, hook, 2)
        assert names(tmp_path)[:2] == ["epoch_1.pth", "epoch_2.pth"]

        resumed = Run(tmp_path, epoch=2)
        hub = load_local_checkpoint(recorded_checkpoint(tmp_path))["message_hub"]
        resumed.message_hub.load_state_dict(hub)
        hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=1)
        hook.before_train(resumed)
        assert names(tmp_path) == ["epoch_2.pth", "last_checkpoint"]
        train(resumed, hook, 1)
        assert names(tmp_path) == ["epoch_3.pth", "last_checkpoint"]

    def test_iterations_and_another_folder(self, tmp_path):
        work_dir, out_dir = tmp_path / "work/run", tmp_path / "out"
        work_dir.mkdir(parents=True)
        run, hook = start(work_dir, by_epoch=False, out_dir=str(out_dir), max_keep_ckpts=1)
        run.max_iters = -1
        for _ in range(2):
            hook.after_train_iter(run, 0)
            run.iter += 1
        assert names(out_dir / "run") == ["iter_2.pth"]
        assert recorded_checkpoint(work_dir) == str(out_dir / "run/iter_2.pth")


class TestFullDisk:
    EXPECTED = (
        r"epoch_2\.pth: cannot be saved \({reason}; needed 0\.3 MB, free [\d,.]+ MB\)\. "
        r".*epoch_1\.pth is complete: make room, then go on with --resume$"
    )

    def test_the_old_checkpoint_stays_and_the_error_says_how_to_go_on(self, tmp_path, monkeypatch):
        run, hook = start(tmp_path, max_keep_ckpts=1)
        train(run, hook, 1)

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        expected = self.EXPECTED.format(reason="No space left on device")
        with pytest.raises(UserError, match=expected):
            train(run, hook, 1)
        assert names(tmp_path) == ["epoch_1.pth", "last_checkpoint"]
        assert epoch_of(recorded_checkpoint(tmp_path)) == 1

    def test_a_limit_of_the_system(self, tmp_path):
        """The system refuses a part of the file, in the middle of a write."""
        run, hook = start(tmp_path, max_keep_ckpts=1)
        train(run, hook, 1)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            with pytest.raises(UserError, match=self.EXPECTED.format(reason="File too large")):
                train(run, hook, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert names(tmp_path) == ["epoch_1.pth", "last_checkpoint"]

    def test_the_old_best_stays_too(self, tmp_path, monkeypatch):
        run, hook = start(tmp_path, save_best="score", rule="greater")
        train(run, hook, 1)
        hook.after_val_epoch(run, {"score": 1.0})
        train(run, hook, 1)

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"best_score_epoch_2\.pth.*epoch_2\.pth is compl"):
            hook.after_val_epoch(run, {"score": 2.0})
        assert "best_score_epoch_1.pth" in names(tmp_path)

    def test_the_first_checkpoint(self, tmp_path, monkeypatch):
        run, hook = start(tmp_path)
        monkeypatch.setattr(os, "replace", SimpleNamespace)
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(UserError, match=r"\(full; .*\)\. None is complete yet: make room"):
            train(run, hook, 1)


def test_a_run_killed_at_any_moment_goes_on(tmp_path):
    """Fails with mmengine's hook, whose only checkpoint is gone while it saves the next one."""
    begin = time.monotonic()
    train(*start(tmp_path / "trial"), epochs=10)
    seconds_of_a_save = (time.monotonic() - begin) / 10
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    moments = random.Random(0)

    def train_on(started):
        recorded = recorded_checkpoint(work_dir)
        checkpoint = load_local_checkpoint(recorded) if recorded else {"meta": {"epoch": 0}}
        run = Run(work_dir, checkpoint["meta"]["epoch"])
        if recorded:
            run.message_hub.load_state_dict(checkpoint["message_hub"])
        hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=1)
        os.write(started, b"1")
        hook.before_train(run)
        train(run, hook, 10_000)

    last = 0
    for _ in range(110):
        is_started, started = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                train_on(started)
            finally:
                os._exit(1)
        os.close(started)
        assert os.read(is_started, 1)
        time.sleep(moments.uniform(0, 5 * seconds_of_a_save))  # a fork of a large process is slow
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        os.close(is_started)
        recorded = recorded_checkpoint(work_dir)
        if recorded or last:
            assert epoch_of(recorded) >= last
            last = epoch_of(recorded)
        whole = [name for name in names(work_dir) if name.endswith(".pth")]
        assert len(whole) <= 3  # the recorded, one to be removed, one not recorded yet
        assert all(epoch_of(work_dir / name) for name in whole)
    assert last > 10  # the kills came while much was saved
