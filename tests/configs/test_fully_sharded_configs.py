"""The configs of the largest architecture, which are sharded."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("path", "medium"),
    [
        ("xcit_large_24_p16_maskrcnn_coco.py", "maskrcnn/xcit_medium_24_p16_maskrcnn_coco.py"),
        ("xcit_large_24_p8_upernet_ade20k.py", "upernet/xcit_medium_24_p8_upernet_ade20k.py"),
    ],
)
def test_it_is_the_medium_recipe_with_another_arch_and_strategy(path, medium):
    cfg, medium = (Config.fromfile(CONFIGS / p) for p in (f"fully_sharded/{path}", medium))
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        maps = model.extract_feat(torch.empty(1, 3, 64, 64))  # the neck takes what it is given
    assert maps[-1].shape[0] == 1
    cfg, medium = cfg.to_dict(), medium.to_dict()
    assert cfg.pop("runner_type") == "FlexibleRunner"
    assert cfg.pop("strategy") == {"type": "FullyShardedStrategy"}
    backbone, of_medium = cfg.pop("model")["backbone"], medium.pop("model")["backbone"]
    assert cfg == medium
    assert backbone == {**of_medium, "arch": "large_24", "with_cp": True}
