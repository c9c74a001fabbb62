"""Configs that are written for masks make models that train."""

import numpy as np
import pytest
from PIL import Image

import xcit_dense.mm.mmengine_patches  # noqa: F401
from xcit_dense.cli import new_config
from xcit_dense.cli import train as train_command
from xcit_dense.doctor import diagnose, report
from xcit_dense.mm.config import read_config


def written(tmp_path, head):
    """A config for images with a bright square that is to be found, and masks of 0 and 255."""
    for number in range(4):
        mask = np.zeros((64, 64), np.uint8)
        mask[8 * number :, 20:40] = 255
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / folder / f"{number}.png")
    out = tmp_path / "mine.py"
    given = ["--images", tmp_path / "images", "--masks", tmp_path / "masks", "-o", out]
    given += ["--head", head, "--arch", "nano_12", "--no-pretrained", "--no-check"]
    assert new_config.main(list(map(str, given))) == 0
    return out


@pytest.mark.parametrize("head", ["upernet", "semfpn", "mask2former"])
def test_models_are_healthy(tmp_path, head):
    trial = diagnose(read_config(str(written(tmp_path, head))), (128, 128))
    assert trial.is_healthy and not trial.findings, report(trial)


def test_a_config_trains_and_validates(tmp_path):
    train_command.main([
        str(written(tmp_path, "semfpn")), f"--work-dir={tmp_path / 'run'}", "--cfg-options",
        "train_cfg.max_iters=2", "train_cfg.val_interval=2", "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False", "val_dataloader.num_workers=0",
        "val_dataloader.persistent_workers=False",
    ])  # fmt: skip
    assert list((tmp_path / "run").glob("best_mIoU_*.pth"))
