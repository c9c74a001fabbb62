"""Optimizer, schedule and normalization of the images follow the new backbone."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

import xcit_dense
from xcit_dense.mm.layer_decay import LayerDecayOptimWrapperConstructor
from xcit_dense.swap import SwapError, plan_swap

BACKBONE = {"type": "ResNet", "depth": 18}
NECK = {"type": "FPN", "in_channels": [64, 128, 256, 512]}
HEAD = {"type": "FCNHead", "in_channels": 512, "in_index": 3}


def config(scope="mmdet", **rest):
    reader = {"neck": NECK} if scope == "mmdet" else {"decode_head": HEAD}
    return Config({"default_scope": scope, "model": {"backbone": BACKBONE, **reader}, **rest})


def wrapper(optimizer="SGD", lr=0.02, **rest):
    return {"optim_wrapper": {"optimizer": {"type": optimizer, "lr": lr}, **rest}}


def keys_of(swap):
    return swap.config.optim_wrapper.paramwise_cfg.custom_keys


@pytest.mark.parametrize(
    ("scope", "scaling", "lr", "decay"),
    [
        ("mmdet", {"base_batch_size": 16}, 1e-4, 0.05),
        ("mmdet", {"base_batch_size": 64}, 4e-4, 0.05),
        ("mmdet", None, 1e-4, 0.05),
        ("mmseg", {"enable": True}, 6e-5, 0.01),
    ],
)
def test_sgd_gives_way_to_the_optimizer_of_the_release(scope, scaling, lr, decay):
    new = plan_swap(config(scope, **wrapper(), auto_scale_lr=scaling)).config
    assert new.optim_wrapper.optimizer == {
        "type": "AdamW",
        "lr": pytest.approx(lr),
        "betas": (0.9, 0.999),
        "weight_decay": decay,
    }


def test_adamw_keeps_its_settings():
    cfg = config(**wrapper(torch.optim.AdamW, 2e-4, clip_grad={"max_norm": 0.1}))
    optim_wrapper = plan_swap(cfg, "nano_12").config.optim_wrapper
    assert optim_wrapper.clip_grad == {"max_norm": 0.1}
    # mmengine multiplies the decay, and fails where there is none: torch's own is told
    defaults = build_optim_wrapper(nn.Linear(1, 1), optim_wrapper).optimizer.defaults
    own = torch.optim.AdamW([torch.zeros(1)]).defaults
    assert (defaults["lr"], defaults["weight_decay"]) == (2e-4, own["weight_decay"])


@pytest.mark.parametrize(
    "optim_wrapper", [None, {"optimizer": None}, {"neck": {"optimizer": {"type": "SGD"}}}]
)
def test_without_a_single_optimizer_it_is_left_to_the_user(optim_wrapper):
    swap = plan_swap(config(optim_wrapper=optim_wrapper))
    assert any(note.startswith("optim_wrapper: ") and "use AdamW" in note for note in swap.notes)
    assert swap.config.get("optim_wrapper") == optim_wrapper


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ({"optim_wrapper": {"optimizer": "SGD"}}, "optim_wrapper"),
        (wrapper("AdamW", paramwise_cfg={"custom_keys": {"backbone": 0.1}}), "optim_wrapper"),
        ({**wrapper(), "auto_scale_lr": {"base_batch_size": "16"}}, "auto_scale_lr"),
        ({**wrapper(), "param_scheduler": [{"type": "PolyLR", "eta_min": "1"}]}, "param_scheduler"),
    ],
)
def test_values_of_another_kind_are_an_error_that_says_where(rest, place):
    with pytest.raises(SwapError, match=f"^{place}: .* not understood"):
        plan_swap(config(**rest))


WARM_UP = {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False, "begin": 0, "end": 500}
LINEAR = {"type": "LinearLR", "start_factor": 0.001, "end": 500}
FALLING = {"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.01, "end": 12}
COSINE = {"type": "CosineAnnealingParamScheduler", "param_name": "lr", "eta_min": 0.002}
OF_MOMENTUM = {**COSINE, "param_name": "momentum"}
MOMENTUM = {"type": "CosineAnnealingMomentum", "eta_min": 0.85}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # what is told as a rate shrinks with the rate, here by 200, and a warm-up comes first
        ([{"type": "PolyLR", "eta_min": 2e-3}], [WARM_UP, {"type": "PolyLR", "eta_min": 1e-5}]),
        ({"type": "PolyLR"}, [WARM_UP, {"type": "PolyLR"}]),
        ([FALLING, COSINE], [WARM_UP, FALLING, {**COSINE, "eta_min": 1e-5}]),
        # what warms up already
        ([LINEAR], [LINEAR]),
        ([{"type": "OneCycleLR", "eta_max": 0.04}], [{"type": "OneCycleLR", "eta_max": 2e-4}]),
        # what is no learning rate
        ([LINEAR, MOMENTUM, OF_MOMENTUM], [LINEAR, MOMENTUM, OF_MOMENTUM]),
        (None, None),
    ],
)  # fmt: skip
def test_the_schedule_follows_the_rate(old, new):
    swapped = plan_swap(config(**wrapper(), param_scheduler=old)).config
    assert swapped.param_scheduler == new


def test_layer_wise_decay_counts_the_layers_of_xcit():
    paramwise = {"decay_rate": 0.8, "decay_type": "stage_wise", "num_layers": 12}
    old = wrapper(
        "AdamW", constructor="LearningRateDecayOptimizerConstructor", paramwise_cfg=paramwise
    )
    once = plan_swap(config(**old), "nano_12")
    new = once.config.optim_wrapper
    assert new.paramwise_cfg.decay_rate == 0.8
    assert not {"decay_type", "num_layers"} & new.paramwise_cfg.keys()
    assert any("instead of LearningRateDecayOptimizerConstructor" in note for note in once.notes)
    assert plan_swap(once.config, "nano_12").config.optim_wrapper == new

    model = nn.ModuleDict({"backbone": xcit_dense.XCiT("nano_12")})
    rates = [group["lr"] for group in build_optim_wrapper(model, new).optimizer.param_groups]
    assert min(rates) < 0.1 * max(rates)
    assert new.constructor.endswith(f".{LayerDecayOptimWrapperConstructor.__name__}")


@pytest.mark.parametrize(
    ("keys", "gone"),
    [
        (["backbone", "backbone.layer4"], {"backbone.layer4"}),
        (["absolute_pos_embed", "pos_embed", "norm"], {"absolute_pos_embed", "pos_embed"}),
    ],
)
def test_keys_of_the_old_backbone_go_and_others_stay(keys, gone):
    custom = {key: {"decay_mult": 0.0} for key in keys}
    swap = plan_swap(config(**wrapper("AdamW", paramwise_cfg={"custom_keys": custom})), "nano_12")
    assert set(keys) - keys_of(swap).keys() == gone
    assert bool(gone) == any("which named parts of the old" in note for note in swap.notes)
    # a key that spares all norms is enough
    assert {key for key in keys_of(swap) if "norm" in key} <= set(keys)


def built_groups(cfg, prefix=""):
    """By the names of parameters, what mmengine makes of a swapped config."""
    inner = cfg.model.get("detector", cfg.model)
    backbone = {key: value for key, value in inner.backbone.items() if key != "type"}
    with torch.device("meta"):
        model = nn.ModuleDict({"backbone": xcit_dense.XCiT(**backbone), "neck": nn.Linear(1, 1)})
    norms = nn.LayerNorm | nn.modules.batchnorm._NormBase
    spared = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    model = nn.ModuleDict({prefix: model}) if prefix else model
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    group_of = {id(p): group for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_spared = id(parameter) in spared or name.endswith(("temperature", "layer_scale"))
        yield name, is_spared, group_of[id(parameter)]


@pytest.mark.parametrize(
    ("patch_size", "keys"), [(16, {}), (8, {"backbone": {"lr_mult": 0.1, "decay_mult": 1.0}})]
)
def test_mmengine_spares_every_norm_temperature_and_layer_scale(patch_size, keys):
    cfg = config(**wrapper("AdamW", 1e-3, paramwise_cfg={"custom_keys": keys}))
    cfg.optim_wrapper.optimizer.weight_decay = 0.5
    for name, is_spared, group in built_groups(plan_swap(cfg, "nano_12", patch_size).config):
        assert group["weight_decay"] == (0 if is_spared else 0.5), name
        slowed = 0.1 if keys and name.startswith("backbone.trunk") else 1.0
        assert group["lr"] == pytest.approx(1e-3 * slowed), name


@pytest.mark.parametrize(
    ("prefix", "more", "whole"),
    [("detector", {}, True), ("detector", {}, False), ("student", {"semi_train_cfg": {}}, False)],
)
def test_keys_of_a_detector_inside_leave_room_for_those_of_xcit(prefix, more, whole):
    """The longest key wins, and ``detector.backbone`` is longer than ``temperature``."""
    keys = {prefix: {"lr_mult": 0.1}}
    if not whole:
        keys = {
            "backbone": {"lr_mult": 0.5},
            f"{prefix}.backbone": {"lr_mult": 0.1},
            f"{prefix}.backbone.layer4": {"lr_mult": 0.2},
            f"{prefix}.backbone_aux": {"lr_mult": 0.3},
        }
    keys[f"{prefix}.neck"] = {"lr_mult": 2.0}
    cfg = config(**wrapper("AdamW", 1.0, paramwise_cfg={"custom_keys": keys}))
    cfg.model = {"type": "Any", "detector": {"type": "RPN", **cfg.model}, **more}
    swap = plan_swap(cfg, "nano_12")
    assert whole != any(f"{prefix}.backbone is backbone now" in note for note in swap.notes)
    assert not [key for key in keys_of(swap) if "layer4" in key]
    assert whole or f"{prefix}.backbone_aux" in keys_of(swap)
    for name, is_spared, group in built_groups(swap.config, prefix):
        rate = 0.1 if "trunk" in name else 2.0 if "neck" in name else 1.0
        assert group["lr"] == pytest.approx(rate), name
        assert not is_spared or group["weight_decay"] == 0.0, name


RGB = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}


@pytest.mark.parametrize(
    ("preprocessor", "changes"),
    [
        ({"mean": [103.53, 116.28, 123.675], "std": [1.0] * 3, "bgr_to_rgb": False}, RGB),
        ({"pad_size_divisor": 32}, RGB),
        ({"mean": [1, 2, 3], "rgb_to_bgr": True}, {**RGB, "rgb_to_bgr": False}),
        ({"mean": [0.0], "std": [1.0]}, {}),
        ({"type": "MultiBranchDataPreprocessor", "pad_size_divisor": 32}, {}),
    ],
)
def test_images_are_normalized_as_imagenet(preprocessor, changes):
    cfg = config()
    cfg.model.data_preprocessor = {"type": "DetDataPreprocessor", **preprocessor}
    swap = plan_swap(cfg)
    assert swap.config.model.data_preprocessor == {**cfg.model.data_preprocessor, **changes}
    noted = [note for note in swap.notes if note.startswith("model.data_preprocessor normalizes")]
    assert len(noted) == bool(changes)


def test_images_of_other_channels_or_normalized_by_the_pipeline_are_left():
    cfg = config()
    cfg.model.data_preprocessor = {"type": "DetDataPreprocessor", "pad_size_divisor": 32}
    cfg.model.backbone.in_channels = 4
    assert plan_swap(cfg).config.model.data_preprocessor == cfg.model.data_preprocessor
    cfg.model.backbone.in_channels = 3
    cfg.train_dataloader = {"dataset": {"dataset": {"pipeline": [{"type": "Normalize"}]}}}
    swap = plan_swap(cfg)
    assert swap.config.model.data_preprocessor == cfg.model.data_preprocessor
    assert any(note.startswith("The pipeline normalizes") for note in swap.notes)
