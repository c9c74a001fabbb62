"""Optimizer, schedule, normalization and imports follow the new backbone."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

import xcit_dense
from xcit_dense.openmmlab.swap import plan_swap
from xcit_dense.openmmlab.swap.config_source import ConfigSource

BACKBONE = {"type": "ResNet", "depth": 18}
NECK = {"type": "FPN", "in_channels": [64, 128, 256, 512]}


def config(scope="mmdet", **rest):
    head = {"type": "FCNHead", "in_channels": 512, "in_index": 3}
    reader = {"neck": NECK} if scope == "mmdet" else {"decode_head": head}
    return Config({"default_scope": scope, "model": {"backbone": BACKBONE, **reader}, **rest})


def wrapper(optimizer="SGD", lr=0.02, **rest):
    return {"optim_wrapper": {"optimizer": {"type": optimizer, "lr": lr}, **rest}}


def test_sgd_gives_way_to_the_optimizer_of_the_release():
    detection = plan_swap(config(**wrapper())).config.optim_wrapper
    assert detection.optimizer == {
        "type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05
    }  # fmt: skip
    segmentation = plan_swap(config("mmseg", **wrapper(lr=0.01))).config.optim_wrapper
    assert (segmentation.optimizer.lr, segmentation.optimizer.weight_decay) == (6e-5, 0.01)


def test_the_learning_rate_follows_the_batch_size_of_the_recipe():
    cfg = config(**wrapper(), auto_scale_lr={"base_batch_size": 64})
    assert plan_swap(cfg).config.optim_wrapper.optimizer.lr == pytest.approx(4e-4)


def test_adamw_keeps_its_settings():
    cfg = config(**wrapper("AdamW", 2e-4, clip_grad={"max_norm": 0.1}))
    optim_wrapper = plan_swap(cfg).config.optim_wrapper
    assert optim_wrapper.optimizer == {"type": "AdamW", "lr": 2e-4}
    assert optim_wrapper.clip_grad == {"max_norm": 0.1}


def test_the_schedule_ends_below_where_it_begins_and_warms_up():
    poly = {"type": "PolyLR", "eta_min": 1e-4, "power": 0.9, "begin": 0, "end": 100}
    cfg = config("mmseg", **wrapper(lr=0.01), param_scheduler=[poly])
    warm_up, decay = plan_swap(cfg).config.param_scheduler
    assert (warm_up.type, warm_up.begin, warm_up.end) == ("LinearLR", 0, 1500)
    assert decay.eta_min == pytest.approx(1e-4 * 6e-5 / 0.01)


def test_a_schedule_that_warms_up_is_left():
    linear = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500}
    cfg = config(**wrapper(), param_scheduler=[linear])
    assert plan_swap(cfg).config.param_scheduler == [linear]


def test_layer_wise_decay_counts_the_layers_of_xcit():
    cfg = config(
        **wrapper(
            "AdamW",
            constructor="LearningRateDecayOptimizerConstructor",
            paramwise_cfg={"decay_rate": 0.8, "decay_type": "stage_wise", "num_layers": 12},
        )
    )
    optim_wrapper = plan_swap(cfg).config.optim_wrapper
    assert optim_wrapper.constructor == "LayerDecayOptimWrapperConstructor"
    assert optim_wrapper.paramwise_cfg.decay_rate == 0.8
    assert not {"decay_type", "num_layers"} & optim_wrapper.paramwise_cfg.keys()


def test_keys_of_the_old_backbone_go_and_others_stay():
    keys = {
        "backbone": {"lr_mult": 0.1},
        "backbone.layer4": {"lr_mult": 0.2},
        "layer3": {"lr_mult": 0.3},
        "absolute_pos_embed": {"decay_mult": 0.0},
        "query_embed": {"decay_mult": 0.0},
    }
    swap = plan_swap(config(**wrapper("AdamW", paramwise_cfg={"custom_keys": keys})))
    left = swap.config.optim_wrapper.paramwise_cfg.custom_keys
    assert {"backbone", "query_embed"} <= left.keys()
    assert not {"backbone.layer4", "layer3", "absolute_pos_embed"} & left.keys()
    assert any("without backbone.layer4, layer3, absolute_pos_embed" in n for n in swap.notes)


@pytest.mark.parametrize("keys", [{}, {"backbone": {"lr_mult": 0.1, "decay_mult": 1.0}}])
@pytest.mark.parametrize("patch_size", [8, 16])
def test_mmengine_spares_every_norm_temperature_and_layer_scale(keys, patch_size):
    cfg = config(**wrapper("AdamW", 1e-3, paramwise_cfg={"custom_keys": keys}))
    cfg.optim_wrapper.optimizer.weight_decay = 0.5
    new = plan_swap(cfg, "nano_12", patch_size).config
    backbone = {key: value for key, value in new.model.backbone.items() if key != "type"}
    with torch.device("meta"):
        model = nn.ModuleDict({"backbone": xcit_dense.XCiT(**backbone), "neck": nn.Linear(1, 1)})
    groups = build_optim_wrapper(model, new.optim_wrapper).optimizer.param_groups
    settings = {id(p): group for group in groups for p in group["params"]}
    norms = nn.LayerNorm | nn.modules.batchnorm._NormBase
    spared = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    for name, parameter in model.named_parameters():
        is_spared = id(parameter) in spared or name.endswith(("temperature", "layer_scale"))
        assert settings[id(parameter)]["weight_decay"] == (0 if is_spared else 0.5), name
        slowed = 0.1 if keys and name.startswith("backbone.trunk") else 1.0
        assert settings[id(parameter)]["lr"] == pytest.approx(1e-3 * slowed), name


@pytest.mark.parametrize(
    "preprocessor",
    [
        {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "bgr_to_rgb": False},
        {"pad_size_divisor": 32},
        {"mean": [1, 2, 3], "std": [1, 1, 1], "rgb_to_bgr": True},
    ],
)
def test_images_are_normalized_as_imagenet(preprocessor):
    cfg = config()
    cfg.model.data_preprocessor = {"type": "DetDataPreprocessor", **preprocessor}
    new = plan_swap(cfg).config.model.data_preprocessor
    assert new.mean == [123.675, 116.28, 103.53]
    assert new.std == [58.395, 57.12, 57.375]
    assert new.bgr_to_rgb
    assert not new.get("rgb_to_bgr")


def test_images_of_other_channels_are_left():
    cfg = config()
    cfg.model.data_preprocessor = {"type": "DetDataPreprocessor", "mean": [0.0], "std": [1.0]}
    assert plan_swap(cfg).config.model.data_preprocessor == cfg.model.data_preprocessor


def test_imports_are_added_to():
    imports = {"imports": "mine", "allow_failed_imports": True}
    new = plan_swap(config(custom_imports=imports)).config.custom_imports
    assert new == {"imports": ["xcit_dense", "mine"], "allow_failed_imports": True}


def test_a_checkpoint_of_the_old_model_is_not_loaded():
    swap = plan_swap(config(load_from="old.pth"))
    assert swap.config.load_from is None
    assert "load_from is None: old.pth has another backbone." in swap.notes


def test_every_shipped_recipe_of_a_kind_gets_a_rate_for_adamw():
    cfg = ConfigSource.find("mmdet::yolox/yolox_tiny_8xb8-300e_coco.py").load()
    new = plan_swap(cfg).config
    rate = new.optim_wrapper.optimizer.lr
    floors = [s.eta_min for s in new.param_scheduler if "eta_min" in s]
    assert floors == [pytest.approx(rate * 0.05)]
