"""Small detectors and segmentors with random weights, and images to try them on."""

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from dev.demo_data import Plan, write_coco
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import xcit_dense  # noqa: F401

sys.path.append(str(Path(__file__).parent))  # for rasters.py
CONFIGS = Path(__file__).parents[2] / "configs"
CHANGES = {
    "mmdet": {
        "model.neck.in_channels": [16] * 4,
        "model.roi_head.bbox_head.fc_out_channels": 32,
        "model.test_cfg.rcnn.max_per_img": 20,
    },
    "mmseg": {
        "model.decode_head.in_channels": [16] * 4,
        "model.decode_head.channels": 16,
        "model.auxiliary_head.in_channels": 16,
    },
}
TINY = {"model.backbone.arch.embed_dims": 16, "model.backbone.arch.depth": 4}


def save_model(folder, config, changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(changes)
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / "config.py")
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    for name, weight in model.named_parameters():
        if name.endswith(("conv_logits.weight", "conv_seg.weight")):
            torch.nn.init.normal_(weight, std=3.0)  # predictions that differ from place to place
    meta = {"dataset_meta": {"classes": cfg.metainfo.classes}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, folder / "checkpoint.pth")
    return SimpleNamespace(
        config=str(folder / "config.py"), checkpoint=str(folder / "checkpoint.pth"), cfg=cfg
    )


@pytest.fixture(scope="session", name="save_model")
def save_model_():
    """Saves a config with changes, and a checkpoint of its model."""
    return save_model


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "detector"
    changes = {**TINY, **CHANGES["mmdet"]}
    return save_model(folder, CONFIGS / "demo/xcit_maskrcnn_demo.py", changes)


@pytest.fixture(scope="session")
def segmentor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "segmentor"
    changes = {**TINY, **CHANGES["mmseg"]}
    return save_model(folder, CONFIGS / "demo/xcit_upernet_demo.py", changes)


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    write_coco(root, Plan(train=3, val=4, size=64))
    return root


@pytest.fixture(scope="session")
def image_path(coco):
    return sorted((coco / "val2017").iterdir())[0]


@pytest.fixture
def pixels(image_path):
    return cv2.imread(str(image_path))
