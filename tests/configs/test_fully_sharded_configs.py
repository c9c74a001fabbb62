"""The configs of the largest architecture, which are sharded."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

CONFIGS = Path(__file__).parents[2] / "configs"
SHARDED = sorted(CONFIGS.glob("fully_sharded/*.py"))


def test_there_is_one_for_each_task():
    assert [Config.fromfile(path).default_scope for path in SHARDED] == ["mmdet", "mmseg"]


@pytest.mark.parametrize("path", SHARDED, ids=lambda path: path.stem)
def test_it_is_the_medium_recipe_with_another_arch_and_strategy(path):
    cfg = Config.fromfile(path).to_dict()
    head = "maskrcnn" if "maskrcnn" in path.stem else "upernet"
    medium = Config.fromfile(CONFIGS / head / path.name.replace("large", "medium")).to_dict()
    assert cfg.pop("runner_type") == "FlexibleRunner"
    assert cfg.pop("strategy") == {"type": "FullyShardedStrategy"}
    model, medium_model = cfg.pop("model"), medium.pop("model")
    assert cfg == medium
    wanted = {"arch": "large_24", "with_cp": True}
    assert model["backbone"] == {**medium_model["backbone"], **wanted}
    assert f"_p{model['backbone']['patch_size']}_" in path.stem


@pytest.mark.parametrize("path", SHARDED, ids=lambda path: path.stem)
def test_neck_and_heads_take_what_the_backbone_gives(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.backbone.out_channels == (768,) * 4
    if cfg.default_scope == "mmdet":
        assert [layer.conv.in_channels for layer in model.neck.lateral_convs] == [768] * 4
    else:
        assert [layer.conv.in_channels for layer in model.decode_head.lateral_convs] == [768] * 3
        assert model.decode_head.in_channels[-1] == 768
        assert model.auxiliary_head.convs[0].conv.in_channels == 768
