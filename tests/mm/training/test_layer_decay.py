"""Layer-wise learning rates: the right rate for every tensor, and the wrong configs refused."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import LinearLR, MultiStepLR, PolyLR, build_optim_wrapper
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope
from torch import nn

from xcit_dense.mm import layer_decay
from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.layer_decay import LayerDecayOptimWrapperConstructor
from xcit_dense.network.architectures import ARCHS

CONFIGS = Path(__file__).parents[3] / "configs"
RECIPES = ["xcit_maskrcnn_coco.py", "xcit_upernet_ade20k.py"]
RATE = 0.8


class Model(nn.Module):
    """A backbone and a head, as detectors and segmentors have them."""

    def __init__(self, **backbone):
        super().__init__()
        self.backbone = XCiT(**backbone)
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))


def build(model, decay_rate=RATE, recipe=RECIPES[1], **options):
    cfg = Config.fromfile(CONFIGS / recipe).optim_wrapper
    cfg.constructor = "LayerDecayOptimWrapperConstructor"
    cfg.paramwise_cfg.update(decay_rate=decay_rate, **options)
    return build_optim_wrapper(model, cfg)


def setting_of(wrapper, name):
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


def meta_model(**backbone):
    with torch.device("meta"):
        return Model(**backbone)


def check_scales(model, depth, base_lr=6e-5):
    lr = setting_of(build(model), "lr")
    named = dict(model.named_parameters())
    assert len(lr) == len(named)
    for name, parameter in named.items():
        assert lr[id(parameter)] == pytest.approx(base_lr * expected_scale(name, depth)), name
    assert min(lr.values()) == pytest.approx(base_lr * RATE ** (depth + 1))


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("arch", ARCHS)
def test_every_layer_of_every_architecture_has_its_rate(arch, patch_size):
    check_scales(meta_model(arch=arch, patch_size=patch_size), ARCHS[arch].depth)


def test_the_blocks_of_an_architecture_of_ones_own_are_counted():
    arch = {"embed_dims": 16, "depth": 5, "num_heads": 2, "eta": 1.0}
    check_scales(meta_model(arch=arch), depth=5)


def test_the_blocks_end_with_the_last_tap():
    check_scales(meta_model(arch="nano_12", out_indices=(0, 2, 4, 7)), depth=8)


@pytest.mark.parametrize("recipe", RECIPES)
def test_rates_and_weight_decay_in_whole_models(recipe):
    """The weight decay stays what the recipe without layer-wise rates makes it."""
    cfg = Config.fromfile(CONFIGS / recipe)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    plain = setting_of(build_optim_wrapper(model, deepcopy(cfg.optim_wrapper)), "weight_decay")
    wrapper = build(model, recipe=recipe)
    assert setting_of(wrapper, "weight_decay") == plain
    assert {0.0, cfg.optim_wrapper.optimizer.weight_decay} == set(plain.values())
    lr = setting_of(wrapper, "lr")
    for name, parameter in model.named_parameters():
        expected = cfg.optim_wrapper.optimizer.lr * expected_scale(name, depth=12)
        assert lr[id(parameter)] == pytest.approx(expected), name
    # stem, 12 blocks, the rest, each with and without weight decay; the heads first
    groups = wrapper.optimizer.param_groups
    assert len(groups) == 2 * 14
    assert groups[0]["lr"] == cfg.optim_wrapper.optimizer.lr


def test_mmengines_own_options_keep_working():
    model = meta_model(arch="nano_12")
    keys = {"backbone.trunk.blocks.11.ffn": {"lr_mult": 3.0}, "temperature": {"decay_mult": 0.0}}
    wrapper = build(model, custom_keys=keys, bias_decay_mult=0.5, norm_decay_mult=0.25)
    lr, decay = setting_of(wrapper, "lr"), setting_of(wrapper, "weight_decay")
    block = model.backbone.trunk.blocks[11]
    assert lr[id(block.ffn.fc1.weight)] == pytest.approx(6e-5 * RATE * 3)
    assert decay[id(block.attention.temperature)] == 0
    assert decay[id(model.head[0].bias)] == pytest.approx(0.01 * 0.5)
    assert decay[id(model.head[1].bias)] == pytest.approx(0.01 * 0.25)
    assert lr[id(model.head[0].bias)] == 6e-5


def test_a_rate_of_one_changes_no_learning_rate():
    wrapper = build(meta_model(arch="nano_12"), decay_rate=1)
    assert set(setting_of(wrapper, "lr").values()) == {6e-5}


def test_frozen_parameters_are_left_out():
    model = meta_model(arch="nano_12", frozen_stages=1)
    lr = setting_of(build(model), "lr")
    assert set(lr) == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(lr) < len(list(model.parameters()))


def test_a_shared_parameter_is_taken_once_with_bypass_duplicate():
    model = meta_model(arch="nano_12")
    model.head[0].weight = model.backbone.trunk.blocks[0].ffn_norm.weight
    groups = build(model, bypass_duplicate=True).optimizer.param_groups
    parameters = [parameter for group in groups for parameter in group["params"]]
    assert len(parameters) == len(set(map(id, parameters))) == len(list(model.parameters()))


class Wrapped(nn.Module):
    """The way that a model for several processes holds the model."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_a_model_wrapped_for_several_processes_has_the_same_groups():
    model = meta_model(arch="nano_12")
    assert setting_of(build(Wrapped(model)), "lr") == setting_of(build(model), "lr")


def test_two_backbones_have_rates_of_their_own():
    shallow, deep = meta_model(arch="tiny_12"), meta_model(arch="tiny_24")
    lr = setting_of(build(nn.ModuleDict({"shallow": shallow, "deep": deep})), "lr")
    for model, depth in [(shallow, 12), (deep, 24)]:
        stem = next(model.backbone.trunk.patch_embedding.parameters())
        assert lr[id(stem)] == pytest.approx(6e-5 * RATE ** (depth + 1))


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (lambda wrapper: LinearLR(wrapper, start_factor=0.1, begin=0, end=10), 0.1),
        (lambda wrapper: MultiStepLR(wrapper, milestones=[1], gamma=0.5), 1.0),
        (lambda wrapper: PolyLR(wrapper, power=1.0, eta_min=0.0, begin=0, end=10), 1.0),
    ],
    ids=["LinearLR", "MultiStepLR", "PolyLR"],
)
def test_schedules_scale_all_layers_alike(schedule, factor):
    arch = {"embed_dims": 16, "depth": 4, "num_heads": 2, "eta": 1.0}
    wrapper = build(Model(arch=arch))
    groups = wrapper.optimizer.param_groups
    initial = [group["lr"] for group in groups]
    scheduler = schedule(wrapper)
    assert [g["lr"] for g in groups] == pytest.approx([factor * lr for lr in initial])
    before = [group["lr"] for group in groups]
    wrapper.step()
    scheduler.step()
    ratios = [group["lr"] / lr for group, lr in zip(groups, before, strict=True)]
    assert ratios == pytest.approx([ratios[0]] * len(groups))
    assert ratios[0] != pytest.approx(1.0)


def test_a_step_moves_the_lower_layers_less():
    """AdamW's first step is as long as the learning rate, so it shows the rate really used."""
    arch = {"embed_dims": 16, "depth": 4, "num_heads": 2, "eta": 1.0}
    model = Model(arch=arch)
    wrapper = build(model)
    before = deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    wrapper.step()
    for index, block in enumerate(model.backbone.trunk.blocks):
        name = f"backbone.trunk.blocks.{index}.attention.temperature"  # no weight decay
        step = (before[name] - block.attention.temperature).abs().max().item()
        assert step == pytest.approx(6e-5 * RATE ** (4 - index), rel=0.01)


def test_the_state_of_the_optimizer_can_be_kept_and_taken_up_again(tmp_path):
    arch = {"embed_dims": 16, "depth": 4, "num_heads": 2, "eta": 1.0}
    wrapper = build(Model(arch=arch))
    torch.save(wrapper.state_dict(), tmp_path / "optimizer.pth")
    other = build(Model(arch=arch), decay_rate=1)
    other.load_state_dict(torch.load(tmp_path / "optimizer.pth", weights_only=True))
    assert other.get_lr()["lr"] == wrapper.get_lr()["lr"]


def test_the_log_shows_the_layers(monkeypatch):
    logged = []
    monkeypatch.setattr(layer_decay, "print_log", lambda message, **_: logged.append(message))
    build(Model(arch={"embed_dims": 16, "depth": 4, "num_heads": 2, "eta": 1.0}))
    (message,) = logged
    assert [line.split() for line in message.splitlines()[1:]] == [
        ["layer", "lr", "scale", "tensors"],
        ["pyramid,", "neck", "and", "heads", "1", "12"],
        ["block", "4", "of", "4", "0.8", "24"],
        ["block", "3", "of", "4", "0.64", "24"],
        ["block", "2", "of", "4", "0.512", "24"],
        ["block", "1", "of", "4", "0.41", "24"],
        ["stem", "and", "position", "encoding", "0.328", "14"],
    ]


class TestErrors:
    @pytest.mark.parametrize("rate", [0, -0.1, 1.1, None, "0.8", float("nan")])
    def test_a_rate_out_of_range(self, rate):
        with pytest.raises(ValueError, match=r"^paramwise_cfg\.decay_rate=.*number in \(0, 1\]"):
            build(meta_model(arch="nano_12"), decay_rate=rate)

    def test_no_xcit_in_the_model(self):
        message = r"^Sequential has no backbone of type XCiT.* remove constructor and decay_rate"
        with pytest.raises(ValueError, match=message):
            build(nn.Sequential(nn.Conv2d(3, 3, 1)))

    @pytest.mark.parametrize("option", ["num_layers", "decay_type"])
    def test_an_option_of_another_constructor(self, option):
        with pytest.raises(ValueError, match=rf"^paramwise_cfg\.{option}: remove it"):
            build(meta_model(arch="nano_12"), **{option: 12})

    def test_an_optimizer_without_a_learning_rate(self):
        cfg = {"optimizer": {"type": "AdamW"}}
        with pytest.raises(ValueError, match=r"^optimizer\.lr is missing"):
            LayerDecayOptimWrapperConstructor(cfg, {"decay_rate": 0.8})


@pytest.mark.parametrize("scope", ["mmdet", "mmseg"])
def test_both_tasks_find_it_and_keep_their_own(scope):
    init_default_scope(scope)
    found = OPTIM_WRAPPER_CONSTRUCTORS.get("LayerDecayOptimWrapperConstructor")
    assert found is LayerDecayOptimWrapperConstructor
