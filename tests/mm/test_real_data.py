"""The flagship configs on real images, where they lie beside the project; else skipped.

A smaller UperNet stands in for the time that the real one takes.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DATA = Path(os.environ.get("XCIT_DENSE_TEST_DATA", PROJECT.parent / "shared/data"))
MMDET_TRAIN = Path(find_spec("mmdet").origin).parent / ".mim/tools/train.py"

needs_coco = pytest.mark.skipif(
    not (DATA / "coco-tiny").is_dir(),
    reason=f"needs 100 COCO images at {DATA}/coco-tiny (XCIT_DENSE_TEST_DATA moves it)",
)
needs_ade = pytest.mark.skipif(
    not (DATA / "ade-tiny").is_dir(),
    reason=f"needs 3 ADE20K images at {DATA}/ade-tiny (XCIT_DENSE_TEST_DATA moves it)",
)

QUICKLY = [
    "val_dataloader.dataset.indices=1",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "default_hooks.logger.interval=1",
]
SMALL_UPERNET = [
    "model.backbone.arch=nano_12",
    "model.decode_head.in_channels=[128,128,128,128]",
    "model.decode_head.channels=64",
    "model.auxiliary_head.in_channels=128",
]


def run_tool(*arguments):
    process = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=PROJECT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout + process.stderr


@needs_coco
def test_the_training_tool_of_mmdet_runs_our_config(tmp_path):
    coco = DATA / "coco-tiny"
    log = run_tool(
        MMDET_TRAIN, PROJECT / "configs/xcit_maskrcnn_coco.py", "--work-dir", tmp_path,
        "--cfg-options", *QUICKLY,
        "train_cfg._delete_=True", "train_cfg.type=IterBasedTrainLoop", "train_cfg.max_iters=2",
        "train_dataloader.batch_size=1", "log_processor.by_epoch=False",
        "default_hooks.checkpoint.by_epoch=False", "default_hooks.checkpoint.interval=2",
        f"train_dataloader.dataset.data_root={coco}", f"val_dataloader.dataset.data_root={coco}",
        f"val_evaluator.ann_file={coco}/annotations/instances_val2017.json",
    )  # fmt: skip
    assert log.count("loss_mask: ") == 2
    assert (tmp_path / "iter_2.pth").exists()


@needs_ade
def test_upernet_trains_and_evaluates_150_classes(tmp_path):
    root = DATA / "ade-tiny/ADEChallengeData2016"
    config = "configs/xcit_upernet_ade20k.py"
    log = run_tool(
        "tools/train.py", config, "--data-root", root, "--work-dir", tmp_path,
        "--cfg-options", *QUICKLY, *SMALL_UPERNET, "train_cfg.max_iters=1",
        "default_hooks.checkpoint.interval=1",
    )  # fmt: skip
    assert "decode.loss_ce: " in log
    log = run_tool(
        "tools/test.py", config, tmp_path / "iter_1.pth", "--data-root", root,
        "--work-dir", tmp_path, "--cfg-options", *SMALL_UPERNET,
        "test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False",
    )  # fmt: skip
    assert "mIoU: " in log
