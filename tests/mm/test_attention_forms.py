"""The engine gives detectors and segmentors the outputs of the plain model."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from xcit_dense.engine import pays

CONFIGS = Path(__file__).parents[2] / "configs"
SIDE = 480  # at patch size 8 these are 3600 tokens, enough for the engine in a narrow model


def build(config, attention):
    cfg = Config.fromfile(CONFIGS / config)
    cfg.model.backbone.update(arch="nano_12", patch_size=8, attention=attention)
    for part in ("neck", "decode_head", "auxiliary_head"):
        if "in_channels" in cfg.model.get(part, {}):
            wanted = cfg.model[part].in_channels
            cfg.model[part].in_channels = [128] * 4 if isinstance(wanted, list) else 128
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


def pair(config):
    direct, auto = build(config, "direct"), build(config, "auto")
    auto.load_state_dict(direct.state_dict())
    return direct, auto


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_the_size_makes_auto_choose_the_engine():
    assert pays((SIDE // 8) ** 2, 128)


@torch.no_grad()
def test_mask_rcnn():
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    proposals = torch.tensor([[10.0, 20, 200, 300], [100, 50, 470, 400], [0, 0, 479, 479]])
    image = torch.randn(1, 3, SIDE, SIDE)
    results = []
    for model in pair("xcit_maskrcnn_coco.py"):
        levels = model.extract_feat(image)
        scores, deltas = model.rpn_head(levels)
        heads = model.roi_head.forward(levels, [InstanceData(bboxes=proposals)], [DetDataSample()])
        results.append([*levels, *scores, *deltas, *heads])
    assert_same(*results)


@torch.no_grad()
@pytest.mark.parametrize("config", ["xcit_upernet_ade20k.py"])
def test_upernet(config):
    image = torch.randn(1, 3, SIDE, SIDE)
    results = [[*model.extract_feat(image), model(image, mode="tensor")] for model in pair(config)]
    assert_same(*results)
