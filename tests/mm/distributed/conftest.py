"""Runs on one process and on two, done once for all tests of this folder."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dev.demo_data import Plan, write_ade20k, write_coco
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

CONFIGS = Path(__file__).parents[3] / "configs"
RUN_COMMANDS = Path(__file__).with_name("run_commands.py")
PLAN = Plan(train=10, val=5, size=72)  # five images: two processes get unequal shares

# XCiT-N12/16; without dropout, and with a loss that is a mean over equally many pixels a process.
# With the usual eps AdamW makes large steps of gradients that are nothing but rounding errors.
SEGMENTATION = """
_base_ = "{configs}/demo/xcit_upernet_demo.py"
group_norm = dict(type="GN", num_groups=4)
head = dict(
    in_channels=[128] * 4,
    channels=32,
    norm_cfg=dict(_delete_=True, **group_norm),
    dropout_ratio=0.0,
    loss_decode=dict(_delete_=True, type="CrossEntropyLoss"),
)
model = dict(
    data_preprocessor=dict(size=(48, 48)),
    backbone=dict(_delete_=True, type="XCiT", arch="nano_12", norm_cfg=group_norm),
    decode_head=head,
    auxiliary_head=dict(**{{**head, "in_channels": 128}}),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].crop_size = (48, 48)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=6, val_interval=100)
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=1e-3, eps=1e-4), clip_grad=dict(max_norm=0.5))
default_hooks = dict(checkpoint=dict(interval=3), logger=dict(interval=1))
custom_hooks = [*_base_.custom_hooks, dict(type="RunRecorder")]
randomness = dict(seed=3)
load_from = "{root}/start.pth"  # mmengine's two runners build a model at different random states
"""

# SyncBN everywhere, as in all shipped configs; sharded as in configs/fully_sharded
DETECTION = """
_base_ = ["{configs}/demo/xcit_maskrcnn_demo.py", "{configs}/_base_/runtime/fully_sharded.py"]
model = dict(
    backbone=dict(arch=dict(embed_dims=32, depth=4)),
    neck=dict(in_channels=[32] * 4),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=20)),
)
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=1, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1))
custom_hooks = [*_base_.custom_hooks, dict(type="RunRecorder")]
randomness = dict(seed=3)
"""
SHARDED = ["strategy.type=FullyShardedStrategy"]


def torchrun(script, *arguments):
    """Run a script in two processes on this machine; returns when both have ended."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
        str(script), *map(str, arguments),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(RUN_COMMANDS.parent)}  # for its hooks
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


@pytest.fixture(scope="session", name="torchrun")
def torchrun_fixture():
    return torchrun


@pytest.fixture(scope="session")
def commands():
    """The commands of the tools, to be run in this process."""
    spec = importlib.util.spec_from_file_location("run_commands", RUN_COMMANDS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.COMMANDS


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A folder with data and the two configs."""
    root = tmp_path_factory.mktemp("processes")
    write_coco(root / "coco", PLAN)
    write_ade20k(root / "ade20k", PLAN)
    (root / "segmentation.py").write_text(SEGMENTATION.format(configs=CONFIGS, root=root))
    (root / "detection.py").write_text(DETECTION.format(configs=CONFIGS))
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(root / "segmentation.py").model)
    torch.save({"state_dict": model.state_dict()}, root / "start.pth")
    return root


def arguments(root, task, work_dir, *options, launcher="pytorch", more=(), checkpoint=()):
    data = "coco" if task == "detection" else "ade20k"
    return [
        str(root / f"{task}.py"), *checkpoint, f"--data-root={root / data}",
        f"--work-dir={root / work_dir}", f"--launcher={launcher}", *more,
        *(["--cfg-options", *options] if options else []),
    ]  # fmt: skip


@pytest.fixture(scope="session", name="arguments")
def arguments_fixture():
    return arguments


@pytest.fixture(scope="session")
def alone(root, commands):
    """One process, 4 images: the whole model, and the model with its first stage frozen."""
    frozen = "model.backbone.frozen_stages=1"
    commands["train"](arguments(root, "segmentation", "alone", launcher="none"))
    commands["train"](arguments(root, "segmentation", "alone_frozen", frozen, launcher="none"))
    return SimpleNamespace(whole=root / "alone", frozen=root / "alone_frozen")


@pytest.fixture(scope="session")
def together(root, alone):
    """Two processes with 2 images each, DistributedDataParallel and sharded, in many ways."""
    two = "train_dataloader.batch_size=2"
    frozen = ["model.backbone.frozen_stages=1", "model.backbone.with_cp=True"]
    sharded_frozen = [two, *SHARDED, *frozen, "train_cfg.val_interval=3"]

    def train(task, name, *options, more=()):
        return ["train", arguments(root, task, name, *options, more=more)]

    def test(task, name, work_dir, *more):
        return ["test", arguments(root, task, work_dir, more=more, checkpoint=[str(root / name)])]

    runs = [
        train("segmentation", "ddp", two),
        train(
            "segmentation", "accumulated", "train_dataloader.batch_size=1",
            "optim_wrapper.accumulative_counts=2", "train_cfg.max_iters=12",
            *frozen,
        ),
        train("segmentation", "sharded", *sharded_frozen),
        train("segmentation", "sharded_resumed", *sharded_frozen,
              more=[f"--resume={root}/sharded/iter_3.pth"]),
        train("segmentation", "sharded_from_plain", two, *SHARDED,
              more=[f"--resume={alone.whole}/iter_3.pth"]),
        train("segmentation", "sharded_amp", two, *SHARDED, "train_cfg.max_iters=3",
              more=["--amp", "--amp-dtype=bfloat16"]),
        test("segmentation", "sharded/iter_6.pth", "tested_segmentation"),
        train("detection", "detection"),
        test("detection", "detection/epoch_1.pth", "tested_detection",
             f"--out={root}/together.pkl"),
    ]  # fmt: skip
    finished = torchrun(RUN_COMMANDS, json.dumps(runs))
    assert finished.returncode == 0, finished.stderr[-5000:]
    return SimpleNamespace(output=finished.stdout + finished.stderr, root=root)
