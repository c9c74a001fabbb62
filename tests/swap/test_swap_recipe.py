"""Optimizer, schedule, normalization and imports follow the new backbone."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn
from xcit_dense.swap.config_source import ConfigSource

import xcit_dense
from xcit_dense.swap import SwapError, plan_swap

BACKBONE = {"type": "ResNet", "depth": 18}
NECK = {"type": "FPN", "in_channels": [64, 128, 256, 512]}


def config(scope="mmdet", **rest):
    head = {"type": "FCNHead", "in_channels": 512, "in_index": 3}
    reader = {"neck": NECK} if scope == "mmdet" else {"decode_head": head}
    return Config({"default_scope": scope, "model": {"backbone": BACKBONE, **reader}, **rest})


def segmentor(**rest):
    cfg = config("mmseg", **rest)
    cfg.model.type = "EncoderDecoder"
    cfg.model.decode_head.update(channels=8, num_classes=2, norm_cfg={"type": "BN"})
    return cfg


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


@pytest.mark.parametrize("kind", ["AdamW", "torch.optim.AdamW", torch.optim.AdamW])
def test_adamw_keeps_its_settings(kind):
    cfg = config(**wrapper(kind, 2e-4, clip_grad={"max_norm": 0.1}))
    optim_wrapper = plan_swap(cfg).config.optim_wrapper
    assert optim_wrapper.optimizer.lr == 2e-4
    assert optim_wrapper.clip_grad == {"max_norm": 0.1}


def test_decay_that_is_not_told_is_torchs_own():
    """mmengine multiplies it, and fails where there is none."""
    cfg = config(**wrapper("AdamW"))
    new = plan_swap(cfg, "nano_12").config.optim_wrapper
    assert (
        new.optimizer.weight_decay == torch.optim.AdamW([torch.zeros(1)]).defaults["weight_decay"]
    )
    build_optim_wrapper(nn.ModuleDict({"backbone": xcit_dense.XCiT("nano_12")}), new)


@pytest.mark.parametrize(
    ("optim_wrapper", "has"),
    [
        (None, "none"),
        ({"optimizer": None}, "no single optimizer, and stays as it is"),
        ({"neck": {"optimizer": {"type": "SGD"}}}, "no single optimizer, and stays as it is"),
    ],
)
def test_without_a_single_optimizer_it_is_left_to_the_user(optim_wrapper, has):
    swap = plan_swap(config(optim_wrapper=optim_wrapper))
    assert any(f"optim_wrapper: the config has {has}; use AdamW" in note for note in swap.notes)
    assert swap.config.get("optim_wrapper") == optim_wrapper


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ({"optim_wrapper": {"optimizer": "SGD"}}, "optim_wrapper"),
        (wrapper(lr="1e-2"), "optim_wrapper"),
        (wrapper("AdamW", paramwise_cfg={"custom_keys": {"backbone": 0.1}}), "optim_wrapper"),
        ({**wrapper(), "auto_scale_lr": {"base_batch_size": "16"}}, "auto_scale_lr"),
        (
            {**wrapper(), "param_scheduler": [{"type": "PolyLR", "eta_min": "1e-3"}]},
            "param_scheduler",
        ),
    ],
)
def test_values_of_another_kind_are_an_error_that_says_where(rest, place):
    with pytest.raises(SwapError, match=f"^{place}: what stands there is not understood"):
        plan_swap(config(**rest))


def test_synchronized_norms_of_xcit_are_counted_alone():
    norm = {"type": "MMSyncBN"}
    cfg = config(**wrapper("AdamW"))
    cfg.model.backbone = {"type": "XCiT", "arch": "nano_12", "norm_cfg": norm}
    cfg.model.neck.in_channels = [128] * 4
    swap = plan_swap(cfg, "tiny_12")
    assert swap.config.model.backbone.norm_cfg == norm


@pytest.mark.parametrize("scaling", [None, {}, {"enable": True}])
def test_the_batch_size_of_the_recipe_need_not_be_told(scaling):
    cfg = config(**wrapper(), auto_scale_lr=scaling)
    assert plan_swap(cfg).config.optim_wrapper.optimizer.lr == pytest.approx(1e-4)


def test_the_schedule_ends_below_where_it_begins_and_warms_up():
    poly = {"type": "PolyLR", "eta_min": 1e-4, "power": 0.9, "begin": 0, "end": 100}
    cfg = config("mmseg", **wrapper(lr=0.01), param_scheduler=[poly])
    warm_up, decay = plan_swap(cfg).config.param_scheduler
    assert (warm_up.type, warm_up.begin, warm_up.end) == ("LinearLR", 0, 1500)
    assert decay.eta_min == pytest.approx(1e-4 * 6e-5 / 0.01)


@pytest.mark.parametrize("kind", ["LinearLR", "mmengine.optim.LinearLR"])
def test_a_schedule_that_warms_up_is_left(kind):
    linear = {"type": kind, "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500}
    cfg = config(**wrapper(), param_scheduler=[linear])
    assert plan_swap(cfg).config.param_scheduler == [linear]


def test_one_cycle_rises_to_a_rate_for_adamw():
    one_cycle = {"type": "OneCycleLR", "eta_max": 0.04, "total_steps": 100, "by_epoch": False}
    cfg = config(**wrapper(lr=0.02), param_scheduler=[one_cycle])
    (scheduler,) = plan_swap(cfg).config.param_scheduler
    assert scheduler.eta_max == pytest.approx(2e-4)


def test_momentum_is_no_learning_rate():
    momentum = {"type": "CosineAnnealingMomentum", "eta_min": 0.85, "begin": 0, "end": 100}
    linear = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500}
    cfg = config(**wrapper(), param_scheduler=[linear, momentum])
    assert plan_swap(cfg).config.param_scheduler[1] == momentum


def test_other_parameters_of_the_optimizer_are_no_learning_rate():
    momentum = {"type": "CosineAnnealingParamScheduler", "param_name": "momentum", "eta_min": 0.85}
    rate = {"type": "CosineAnnealingParamScheduler", "param_name": "lr", "eta_min": 0.002}
    cfg = config(**wrapper(), param_scheduler=[momentum, rate])
    _, kept, scaled = plan_swap(cfg).config.param_scheduler
    assert kept == momentum
    assert scaled.eta_min == pytest.approx(1e-5)


def test_a_rate_that_falls_is_no_warm_up_and_has_a_lower_floor():
    falling = {"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.01, "end": 12}
    plateau = {"type": "ReduceOnPlateauLR", "min_value": 1e-3}
    new = plan_swap(config(**wrapper(), param_scheduler=[falling, plateau])).config.param_scheduler
    assert [scheduler.type for scheduler in new] == ["LinearLR", "LinearLR", "ReduceOnPlateauLR"]
    assert new[0].start_factor == 1e-6
    assert new[2].min_value == pytest.approx(1e-3 * 1e-4 / 0.02)


def test_a_constructor_without_a_rate_of_layers_stays():
    own = wrapper("AdamW", constructor="Own", paramwise_cfg={"num_layers": 7, "total": 3})
    new = plan_swap(config(**own)).config.optim_wrapper
    assert new.constructor == "Own"
    assert (new.paramwise_cfg.num_layers, new.paramwise_cfg.total) == (7, 3)


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
    assert optim_wrapper.paramwise_cfg.bias_decay_mult == 0.0  # as mmdet's, without being told


def test_layer_wise_decay_of_xcit_stays_as_it_is():
    once = plan_swap(
        config(
            **wrapper(
                "AdamW",
                constructor="LearningRateDecayOptimizerConstructor",
                paramwise_cfg={"decay_rate": 0.8, "bias_decay_mult": 0.5},
            )
        )
    )
    assert any("gives way to the one that knows XCiT's layers" in note for note in once.notes)
    twice = plan_swap(once.config)
    assert twice.config.optim_wrapper == once.config.optim_wrapper
    assert once.config.optim_wrapper.paramwise_cfg.bias_decay_mult == 0.5
    assert not any("gives way" in note for note in twice.notes)


def test_a_key_that_spares_all_norms_is_enough():
    keys = {"norm": {"decay_mult": 0.0}}
    swap = plan_swap(segmentor(**wrapper("AdamW", paramwise_cfg={"custom_keys": keys})))
    found = swap.config.optim_wrapper.paramwise_cfg.custom_keys
    assert [key for key in found if "norm" in key] == ["norm"]


def test_keys_of_the_old_backbone_go_and_others_stay():
    keys = {
        "backbone": {"lr_mult": 0.1},
        "backbone.layer4": {"lr_mult": 0.2},
        "layer3": {"lr_mult": 0.3},
        "absolute_pos_embed": {"decay_mult": 0.0},
        "query_embed": {"decay_mult": 0.0},
    }
    swap = plan_swap(segmentor(**wrapper("AdamW", paramwise_cfg={"custom_keys": keys})))
    left = swap.config.optim_wrapper.paramwise_cfg.custom_keys
    assert {"backbone", "query_embed"} <= left.keys()
    assert not {"backbone.layer4", "layer3", "absolute_pos_embed"} & left.keys()
    assert any("without backbone.layer4, absolute_pos_embed, layer3" in n for n in swap.notes)


@pytest.mark.parametrize(
    ("prefix", "more"), [("detector", {}), ("student", {"semi_train_cfg": {}})]
)
@pytest.mark.parametrize("whole", [False, True])
def test_keys_of_a_detector_inside_leave_room_for_those_of_xcit(prefix, more, whole):
    """The longest key wins, and ``detector.backbone`` is longer than ``temperature``."""
    keys = {
        "backbone": {"lr_mult": 0.5},
        f"{prefix}.backbone": {"lr_mult": 0.1},
        f"{prefix}.backbone.layer4": {"lr_mult": 0.2},
        f"{prefix}.neck": {"lr_mult": 2.0},
    }
    if whole:
        keys = {prefix: {"lr_mult": 0.1}, f"{prefix}.neck": {"lr_mult": 2.0}}
    cfg = config(**wrapper("AdamW", 1.0, paramwise_cfg={"custom_keys": keys}))
    cfg.model = {"type": "Any", "detector": {"type": "RPN", **cfg.model}, **more}
    swap = plan_swap(cfg, "nano_12")
    assert whole != any(f"{prefix}.backbone is backbone now" in note for note in swap.notes)
    new = swap.config
    assert not [key for key in new.optim_wrapper.paramwise_cfg.custom_keys if "layer4" in key]
    backbone = {key: value for key, value in new.model.detector.backbone.items() if key != "type"}
    detector = nn.ModuleDict({"backbone": xcit_dense.XCiT(**backbone), "neck": nn.Linear(1, 1)})
    model = nn.ModuleDict({prefix: detector})
    groups = build_optim_wrapper(model, new.optim_wrapper).optimizer.param_groups
    settings = {id(p): group for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = settings[id(parameter)]
        rate = 0.1 if "trunk" in name else 2.0 if "neck" in name else 1.0
        assert group["lr"] == pytest.approx(rate), name
        if name.endswith(("temperature", "layer_scale", "norm.weight", "norm.bias")):
            assert group["weight_decay"] == 0.0, name


def test_a_key_that_only_begins_like_the_backbone_stays():
    keys = {"detector.backbone_aux": {"lr_mult": 0.1}}
    cfg = config(**wrapper("AdamW", paramwise_cfg={"custom_keys": keys}))
    cfg.model = {"type": "Any", "detector": {"type": "RPN", **cfg.model}}
    swap = plan_swap(cfg, "nano_12")
    assert "detector.backbone_aux" in swap.config.optim_wrapper.paramwise_cfg.custom_keys
    assert not any("is backbone now" in note for note in swap.notes)


def test_keys_that_name_parts_of_heads_too_stay():
    keys = {"bn": {"lr_mult": 3}, "downsample": {"lr_mult": 2}}
    cfg = segmentor(**wrapper(paramwise_cfg={"custom_keys": keys}))
    left = plan_swap(cfg).config.optim_wrapper.paramwise_cfg.custom_keys
    assert left.bn == {"lr_mult": 3}
    assert "downsample" not in left


def test_a_model_that_can_not_be_built_leaves_keys_in_doubt():
    cfg = config(**wrapper(paramwise_cfg={"custom_keys": {"bn": {"lr_mult": 3}}}))
    cfg.model.type = "Unknown"
    with pytest.raises(SwapError, match=r"model: can not be built, to tell what custom_keys name"):
        plan_swap(cfg)


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
    cfg.model.backbone.in_channels = 4
    cfg.model.data_preprocessor = {"type": "DetDataPreprocessor", "pad_size_divisor": 32}
    assert plan_swap(cfg).config.model.data_preprocessor == cfg.model.data_preprocessor


def test_images_that_the_pipeline_normalizes_are_left():
    pipeline = [{"type": "Normalize", "mean": [1, 2, 3], "std": [1, 1, 1]}]
    cfg = config(train_dataloader={"dataset": {"dataset": {"pipeline": pipeline}}})
    cfg.model.data_preprocessor = {"type": "DetDataPreprocessor", "pad_size_divisor": 32}
    swap = plan_swap(cfg)
    assert swap.config.model.data_preprocessor == cfg.model.data_preprocessor
    assert any(note.startswith("The pipeline normalizes") for note in swap.notes)


def test_imports_are_added_to():
    imports = {"imports": "mine", "allow_failed_imports": True}
    new = plan_swap(config(custom_imports=imports)).config.custom_imports
    assert new == {"imports": ["xcit_dense", "mine"], "allow_failed_imports": True}


def test_a_checkpoint_of_the_old_model_is_not_loaded():
    swap = plan_swap(config(load_from="old.pth"))
    assert swap.config.load_from is None
    assert "load_from is None: old.pth has another backbone." in swap.notes


def test_the_work_dir_of_the_old_run_is_left_alone():
    """Configs that runs leave in their work_dir name it."""
    swap = plan_swap(config(work_dir="work_dirs/old", resume=True))
    assert swap.config.work_dir is None
    assert swap.config.resume is False
    assert "work_dir is None: work_dirs/old has the checkpoints of the old run." in swap.notes
    assert plan_swap(config(resume=False)).config.get("work_dir") is None


def test_what_a_user_of_xcit_has_set_stays():
    options = {
        "norm_cfg": {"type": "GN", "num_groups": 4},
        "drop_path_rate": 0.3,
        "frozen_stages": 1,
        "attention": "direct",
    }
    cfg = config()
    cfg.model.backbone = {"type": "XCiT", "arch": "nano_12", "in_channels": 4, **options}
    cfg.model.neck.in_channels = [128] * 4
    backbone = plan_swap(cfg, "small_12", 8).config.model.backbone
    assert (backbone.arch, backbone.patch_size, backbone.in_channels) == ("small_12", 8, 4)
    assert {key: backbone[key] for key in options} == options


def test_a_frozen_backbone_is_not_thawed_silently():
    cfg = config()
    cfg.model.backbone.frozen_stages = 4
    note = "model.backbone.frozen_stages=4 is gone: XCiT trains as a whole."
    assert note in plan_swap(cfg).notes
    cfg.model.backbone.frozen_stages = 1
    assert not any("frozen_stages" in note for note in plan_swap(cfg).notes)


def test_the_scope_is_that_of_the_models_class():
    cfg = config()
    cfg.default_scope = None
    cfg.model.type = "mmdet.models.detectors.RPN"
    assert plan_swap(cfg).config.model.backbone.type == "XCiT"
    cfg.default_scope = "mmseg"
    cfg.optim_wrapper = {"optimizer": {"type": "SGD", "lr": 0.1}}
    assert plan_swap(cfg).config.optim_wrapper.optimizer.lr == 1e-4  # that of detection
    cfg.default_scope = None
    cfg.model.type = "RPN"
    with pytest.raises(SwapError, match="default_scope: None, must be one of mmdet, mmseg"):
        plan_swap(cfg)


def test_every_shipped_recipe_of_a_kind_gets_a_rate_for_adamw():
    cfg = ConfigSource.find("mmdet::yolox/yolox_tiny_8xb8-300e_coco.py").load()
    new = plan_swap(cfg).config
    rate = new.optim_wrapper.optimizer.lr
    floors = [s.eta_min for s in new.param_scheduler if "eta_min" in s]
    assert floors == [pytest.approx(rate * 0.05)]
