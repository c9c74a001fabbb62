"""The flagship configs on real images, where they lie beside the project; else skipped.

Small backbones, heads and images stand in for the time that the real ones take.
"""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from xcit_dense.cli import train as train_command

PROJECT = Path(__file__).parents[2]
DATA = Path(os.environ.get("XCIT_DENSE_TEST_DATA", PROJECT.parent / "shared/data"))
MMDET_TRAIN = Path(find_spec("mmdet").origin).parent / ".mim/tools/train.py"
QUICKLY = [
    "model.backbone.arch=nano_12",
    "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False",
    "train_dataloader.batch_size=2", "default_hooks.logger.interval=1",
    "train_cfg._delete_=True", "train_cfg.type=IterBasedTrainLoop", "train_cfg.max_iters=1",
]  # fmt: skip


def needs(name):
    folder = DATA / name
    reason = f"needs real images at {folder} (XCIT_DENSE_TEST_DATA moves it)"
    return pytest.mark.skipif(not folder.is_dir(), reason=reason)


@needs("coco-tiny")
def test_the_training_tool_of_mmdet_runs_our_config(tmp_path):
    finished = subprocess.run(
        [sys.executable, str(MMDET_TRAIN), "configs/xcit_maskrcnn_coco.py",
         f"--work-dir={tmp_path}", "--cfg-options", *QUICKLY,
         f"train_dataloader.dataset.data_root={DATA / 'coco-tiny'}",
         "train_dataloader.dataset.pipeline.3.transforms.0.0.scales=[(128,128)]",
         "train_dataloader.dataset.pipeline.3.prob=[1.0,0.0]",
         "model.neck.in_channels=[128,128,128,128]", "model.roi_head.bbox_head.fc_out_channels=32",
         "model.train_cfg.rpn_proposal.max_per_img=50", "model.train_cfg.rcnn.sampler.num=32",
         "log_processor.by_epoch=False", "default_hooks.checkpoint.by_epoch=False",
         "val_cfg=None", "val_dataloader=None", "val_evaluator=None"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "loss_mask: " in finished.stdout + finished.stderr
    assert (tmp_path / "iter_1.pth").exists()


@needs("ade-tiny")
def test_upernet_trains_and_evaluates_150_classes(tmp_path):
    train_command.main([
        str(PROJECT / "configs/xcit_upernet_ade20k.py"), f"--work-dir={tmp_path}",
        f"--data-root={DATA / 'ade-tiny/ADEChallengeData2016'}", "--cfg-options", *QUICKLY,
        "train_cfg.val_interval=1", "randomness.seed=0",
        "model.decode_head.in_channels=[128,128,128,128]",
        "model.decode_head.channels=32", "model.auxiliary_head.in_channels=128",
        "model.test_cfg.mode=whole", "train_dataloader.dataset.pipeline.2.scale=(512,128)",
        "train_dataloader.dataset.pipeline.3.crop_size=(64,64)",
        "model.data_preprocessor.size=(64,64)", "val_dataloader.dataset.pipeline.1.scale=(256,64)",
        "val_dataloader.dataset.indices=1", "val_dataloader.num_workers=0",
        "val_dataloader.persistent_workers=False",
    ])  # fmt: skip
    (scalars,) = tmp_path.glob("*/vis_data/scalars.json")
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert records[0]["decode.loss_ce"] == pytest.approx(math.log(150), rel=0.2)  # it knows nothing
    assert 0 <= records[-1]["mIoU"] <= 100
