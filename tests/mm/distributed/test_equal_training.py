"""Two processes train and evaluate as one does: whole or sharded."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dev.demo_data import Plan, write_ade20k
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).parents[3]
RUN_COMMANDS = Path(__file__).with_name("run_commands.py")
TOLERANCE = 2e-5  # of weights, relative to the largest of a tensor

# Without dropout, and with a loss that is a mean over equally many pixels a process. With the
# usual eps AdamW makes large steps of gradients that are nothing but rounding errors.
CONFIG = """
_base_ = "{root}/configs/demo/xcit_upernet_demo.py"
group_norm = dict(type="GN", num_groups=4)
head = dict(
    in_channels=[32] * 4,
    channels=32,
    norm_cfg=dict(_delete_=True, **group_norm),
    dropout_ratio=0.0,
    loss_decode=dict(_delete_=True, type="CrossEntropyLoss"),
)
arch = dict(embed_dims=32, depth=4, num_heads=4, eta=1.0)
model = dict(
    data_preprocessor=dict(size=(48, 48)),
    backbone=dict(_delete_=True, type="XCiT", arch=arch, norm_cfg=group_norm, frozen_stages=1),
    decode_head=head,
    auxiliary_head=dict(**{{**head, "in_channels": 32}}),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].crop_size = (48, 48)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=4, val_interval=100)
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=1e-3, eps=1e-4), clip_grad=dict(max_norm=0.5))
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
custom_hooks = [*_base_.custom_hooks, dict(type="RunRecorder")]
randomness = dict(seed=3)
load_from = "{folder}/start.pth"  # mmengine's two runners build a model at different random states
"""
TWO_IMAGES = "train_dataloader.batch_size=2"
SHARDED = [
    TWO_IMAGES, "strategy.type=FullyShardedStrategy", "model.backbone.with_cp=True",
    "train_cfg.val_interval=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process with 4 images, and two with 2 images each, in one launch of torchrun."""
    folder = tmp_path_factory.mktemp("processes")
    write_ade20k(folder / "data", Plan(train=10, val=5, size=72))  # 5: processes get unequal shares
    config = folder / "config.py"
    config.write_text(CONFIG.format(root=ROOT, folder=folder))
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, folder / "start.pth")
    commands = runpy.run_path(str(RUN_COMMANDS))["COMMANDS"]

    def arguments(name, *more, launcher="none"):
        places = [f"--data-root={folder}/data", f"--work-dir={folder}/{name}"]
        return [str(config), *places, f"--launcher={launcher}", *more]

    def alone(command, name, *more):
        commands[command](arguments(name, *more))

    def together(command, name, *more):
        return [command, arguments(name, *more, launcher="pytorch")]

    alone("train", "alone")
    launched = [
        together("train", "ddp", "--cfg-options", TWO_IMAGES),
        together("train", "sharded", "--cfg-options", *SHARDED),
        together(
            "train", "resumed", f"--resume={folder}/sharded/iter_2.pth", "--cfg-options", *SHARDED
        ),
        together("test", "tested", f"{folder}/sharded/iter_4.pth"),
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
         str(RUN_COMMANDS), json.dumps(launched)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-5000:]
    return SimpleNamespace(folder=folder, alone=alone)


def record(folder):
    return json.loads((folder / "run.json").read_text())


def weights(checkpoint):
    return torch.load(checkpoint, weights_only=False)["state_dict"]


def largest_difference(first, second):
    """The largest difference of two state dicts, each tensor relative to its largest value."""
    assert list(first) == list(second)
    return max(
        float((first[name].double() - second[name].double()).abs().max())
        / max(float(first[name].abs().max()), 1e-6)
        for name in first
    )


@pytest.mark.parametrize("name", ["ddp", "sharded"])
def test_two_processes_train_as_one_with_twice_the_images(runs, name):
    """The sharded ones compute blocks again in backward, and validate in between."""
    expected, found = record(runs.folder / "alone"), record(runs.folder / name)
    assert (expected["processes"], found["processes"]) == (1, 2)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    end = weights(runs.folder / "alone/iter_4.pth")
    assert largest_difference(end, weights(runs.folder / f"{name}/iter_4.pth")) < TOLERANCE
    start = weights(runs.folder / "alone/iter_2.pth")
    assert largest_difference(start, end) > 10 * TOLERANCE  # so the comparison can fail


def test_a_sharded_process_keeps_half(runs):
    found = record(runs.folder / "sharded")
    assert found["share"] == pytest.approx(0.5, abs=0.02)
    assert found["optimizer_share"] == pytest.approx(0.5, abs=0.02)
    assert record(runs.folder / "ddp")["share"] == 1


def test_a_sharded_run_resumed_ends_in_the_same_weights(runs):
    ends = [weights(runs.folder / f"{name}/iter_4.pth") for name in ("sharded", "resumed")]
    assert len(record(runs.folder / "resumed")["loss"]) == 2
    assert largest_difference(*ends) == 0


def test_a_plain_run_resumes_from_a_sharded_one(runs):
    """Its checkpoint is whole, with the state of the optimizer."""
    runs.alone("train", "plain", f"--resume={runs.folder}/sharded/iter_2.pth")
    ends = [weights(runs.folder / f"{name}/iter_4.pth") for name in ("alone", "plain")]
    assert largest_difference(*ends) < TOLERANCE


def test_metrics_are_those_of_one_process(runs):
    def metrics(name):
        (path,) = (runs.folder / name).glob("*/*.json")
        found = json.loads(path.read_text())
        return {name: value for name, value in found.items() if "time" not in name}

    runs.alone("test", "tested_alone", f"{runs.folder}/sharded/iter_4.pth")
    assert metrics("tested_alone")["mIoU"] > 0
    assert metrics("tested") == metrics("tested_alone")
