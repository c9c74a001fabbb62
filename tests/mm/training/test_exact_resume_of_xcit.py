"""The train tool on real configs: killed and resumed, it ends where it would have ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dev.demo_data import Plan, write_ade20k, write_coco

from xcit_dense.cli import train as train_command

ROOT = Path(__file__).parents[3]
PLAN = Plan(train=8, val=3, size=64)
COMMON = [
    "model.backbone.arch.embed_dims=16", "model.backbone.arch.depth=4",
    "model.backbone.drop_path_rate=0.3", "default_hooks.checkpoint.by_epoch=False",
    "default_hooks.checkpoint.interval=3", "train_dataloader.batch_size=2", "randomness.seed=7",
]  # fmt: skip

# tools/train.py in a process that is killed as its 6th iteration begins
KILLED = """
import os, runpy, signal, sys
from xcit_dense.mm.repeatable_training_hook import RepeatableTrainingHook as hook

def before_train_iter(self, runner, batch_idx, data_batch=None, go_on=hook.before_train_iter):
    if runner.iter == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    go_on(self, runner, batch_idx, data_batch)

hook.before_train_iter = before_train_iter
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def detection(data, work_dir, *more):
    write_coco(data, PLAN)
    return [
        str(ROOT / "configs/demo/xcit_maskrcnn_demo.py"), f"--work-dir={work_dir}",
        f"--data-root={data}", "--cfg-options", *COMMON, "model.neck.in_channels=[16,16,16,16]",
        "train_cfg.max_epochs=2", "train_cfg.val_interval=1", *more,
    ]  # fmt: skip


def segmentation(data, work_dir, *more):
    write_ade20k(data, PLAN)
    return [
        str(ROOT / "configs/demo/xcit_upernet_demo.py"), f"--work-dir={work_dir}",
        f"--data-root={data}", "--cfg-options", *COMMON, "train_cfg.max_iters=8",
        "model.decode_head.in_channels=[16,16,16,16]", "model.auxiliary_head.in_channels=16",
        "train_cfg.val_interval=4", *more,
    ]  # fmt: skip


def test_mask_rcnn_killed_in_the_middle_of_an_epoch(tmp_path, same_end):
    options = detection(tmp_path / "data", tmp_path / "straight")
    train_command.main(options)
    options[1] = f"--work-dir={tmp_path / 'killed'}"
    tool = str(ROOT / "tools/train.py")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tool, *options],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "iter_6.pth").exists()
    train_command.main([*options[:3], "--resume", *options[3:]])
    same_end(tmp_path / "straight" / "iter_8.pth", tmp_path / "killed" / "iter_8.pth")


@pytest.mark.parametrize("amp", [[], ["--amp"]])
def test_upernet_resumed(tmp_path, same_end, amp):
    options = segmentation(tmp_path / "data", tmp_path / "straight")
    train_command.main([*options[:3], *amp, *options[3:]])
    checkpoint = tmp_path / "straight" / "iter_6.pth"
    options[1] = f"--work-dir={tmp_path / 'resumed'}"
    train_command.main([*options[:3], *amp, f"--resume={checkpoint}", *options[3:]])
    same_end(tmp_path / "straight" / "iter_8.pth", tmp_path / "resumed" / "iter_8.pth")
