"""Layer-wise learning rates: the right rate for every tensor, and the wrong configs refused."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from xcit_dense.errors import UserError
from xcit_dense.mm.backbone import XCiT

CONFIGS = Path(__file__).parents[3] / "configs"
RECIPES = ["xcit_maskrcnn_coco.py", "xcit_upernet_ade20k.py"]
RATE = 0.8
SMALL = {"embed_dims": 16, "depth": 4, "num_heads": 2, "eta": 1.0}
BASE_LR = 6e-5  # of UperNet's recipe


class Model(nn.Module):
    """A backbone and a head, as detectors and segmentors have them."""

    def __init__(self, **backbone):
        super().__init__()
        self.backbone = XCiT(**{"arch": SMALL, **backbone})
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))


def build(model, decay_rate=RATE, recipe=RECIPES[1], **options):
    cfg = Config.fromfile(CONFIGS / recipe).optim_wrapper
    cfg.constructor = "LayerDecayOptimWrapperConstructor"
    cfg.paramwise_cfg.update(decay_rate=decay_rate, **options)
    return build_optim_wrapper(model, cfg)


def settings(wrapper, name):
    """A setting of every parameter, by the identity of the parameter."""
    return {id(p): group[name] for group in wrapper.optimizer.param_groups for p in group["params"]}


def expected_scale(name, depth):
    """The scale by the parameter's name, counted apart from the code under test."""
    if ".trunk." not in name:
        return 1.0
    if ".trunk.blocks." not in name:
        return RATE ** (depth + 1)
    index = int(name.split(".trunk.blocks.")[1].split(".")[0])
    return RATE ** (depth - index)


@pytest.mark.parametrize(
    ("backbone", "depth"),
    [
        ({"arch": "tiny_24", "patch_size": 8}, 24),
        ({"arch": {**SMALL, "depth": 5}}, 5),
        ({"arch": "nano_12", "out_indices": (0, 2, 4, 7)}, 8),
        ({"frozen_stages": 1}, 4),
    ],
)
def test_every_layer_that_is_trained_has_its_rate(backbone, depth):
    with torch.device("meta"):
        model = Model(**backbone)
    lr = settings(build(model), "lr")
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(lr) == len(named)
    for name, parameter in named.items():
        assert lr[id(parameter)] == pytest.approx(BASE_LR * expected_scale(name, depth)), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_whole_models_keep_the_weight_decay_of_the_recipe(recipe):
    cfg = Config.fromfile(CONFIGS / recipe)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    plain = settings(build_optim_wrapper(model, deepcopy(cfg.optim_wrapper)), "weight_decay")
    wrapper = build(model, recipe=recipe)
    assert settings(wrapper, "weight_decay") == plain
    assert wrapper.get_lr()["lr"][0] == cfg.optim_wrapper.optimizer.lr  # the heads': it is logged


def test_mmengines_own_options_keep_working():
    model = Model()
    keys = {"backbone.trunk.blocks.3.ffn": {"lr_mult": 3.0}, "temperature": {"decay_mult": 0.0}}
    wrapper = build(model, custom_keys=keys, bias_decay_mult=0.5, norm_decay_mult=0.25)
    lr, decay = settings(wrapper, "lr"), settings(wrapper, "weight_decay")
    block = model.backbone.trunk.blocks[3]
    assert lr[id(block.ffn.fc1.weight)] == pytest.approx(BASE_LR * RATE * 3)
    assert decay[id(block.attention.temperature)] == 0
    assert decay[id(model.head[0].bias)] == pytest.approx(0.01 * 0.5)
    assert decay[id(model.head[1].bias)] == pytest.approx(0.01 * 0.25)


@pytest.mark.parametrize("rate", [0, 1.1, None, "0.8", float("nan")])
def test_a_rate_out_of_range_is_an_error(rate):
    with pytest.raises(UserError, match=rf"decay_rate={rate!r}.*in \(0, 1\]"):
        build(Model(), decay_rate=rate)


def test_a_model_without_xcit_is_an_error():
    with pytest.raises(UserError, match=r"Sequential has no .*XCiT.* remove"):
        build(nn.Sequential(nn.Conv2d(3, 3, 1)))
