"""The hook that prepares checkpoints for whole models: errors, silence, and odd models."""

import copy

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseTTAModel, MMDistributedDataParallel
from mmengine.registry import HOOKS
from mmengine.runner._flexible_runner import FlexibleRunner

from xcit_dense.errors import UserError
from xcit_dense.mm.load_report_hook import LoadReportHook


class FakeRunner:
    """What the hook asks of a runner."""

    def __init__(self, model, resume=False):
        self.model = model
        self._resume = resume
        self._load_from = "other.pth"


def after_load(model, checkpoint, resume=False):
    LoadReportHook().after_load_checkpoint(FakeRunner(model, resume), checkpoint)
    return checkpoint


def filled_with(value, model):
    return {name: torch.full_like(tensor, value) for name, tensor in model.state_dict().items()}


def test_configs_can_name_it():
    assert isinstance(HOOKS.build({"type": "LoadReportHook"}), LoadReportHook)


def test_a_file_without_any_tensor_of_the_model_is_an_error(toy_detector, load_from, tmp_path):
    torch.save({"model": {"layer1.weight": torch.zeros(1)}}, tmp_path / "resnet.pth")
    with pytest.raises(
        UserError,
        match=r"resnet.pth: no tensor of the model; the keys begin .* \['layer1.weight'\]",
    ):
        load_from(toy_detector(), tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"patch_size": 8}, "this is nano_12/8; the config builds nano_12/16"),
        (
            {"arch": {"embed_dims": 128, "depth": 13, "num_heads": 4, "eta": 1.0}},
            r"this is XCiT\(embed_dims=128, depth=13, num_heads=4\)/16; .*\(depth 13, not 12\)",
        ),
    ],
    ids=str,
)
def test_another_backbone_is_an_error(other, message, toy_detector):
    given = toy_detector(**other).state_dict()
    with pytest.raises(UserError, match=f"other.pth: .*{message}"):
        after_load(toy_detector(), {"state_dict": given, "meta": {}})


@pytest.mark.parametrize("way", ["torch", "init_cfg"])
def test_another_backbone_is_an_error_without_the_hook(way, toy_detector, tmp_path):
    given, model = toy_detector(patch_size=8).state_dict(), toy_detector()
    message = "this is nano_12/8; the config builds nano_12/16"
    if way == "torch":
        with pytest.raises(UserError, match=message):
            model.load_state_dict(given, strict=False)
    else:
        torch.save({"state_dict": given}, tmp_path / "other.pth")
        model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": f"{tmp_path}/other.pth"}
        with pytest.raises(UserError, match=f"other.pth: .*{message}"):
            model.backbone.init_weights()


def test_our_own_state_dict_loads_in_silence(toy_detector, log):
    model, copied = toy_detector(), toy_detector()
    result = copied.load_state_dict(model.state_dict(), strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, copied.state_dict()[key]), key
    assert log == []


def test_a_complete_resume_says_nothing(toy_detector, log):
    model = toy_detector()
    checkpoint = after_load(model, {"state_dict": model.state_dict(), "meta": {}}, resume=True)
    assert log == []
    assert checkpoint["state_dict"].keys() == model.state_dict().keys()


def test_versions_of_modules_stay(toy_detector):
    state_dict = toy_detector().state_dict()
    checkpoint = after_load(toy_detector(), {"state_dict": state_dict})
    assert checkpoint["state_dict"]._metadata == state_dict._metadata


def test_published_names_loaded_by_torch_are_noted(timm_nano, official, toy_detector, log):
    backbone = toy_detector().backbone
    backbone.load_state_dict(official(timm_nano.state_dict()), strict=False)
    assert log == ["backbone: left out on purpose: 31 of class attention, 2 of classifier"]


def test_blocks_behind_the_last_tap_are_left_out(timm_nano, toy_detector, log):
    model = toy_detector(out_indices=(1, 3, 5, 7))
    after_load(model, {"model": timm_nano.state_dict()})
    assert log[0].endswith(
        "backbone.* left out on purpose: 39 of class attention, 108 of blocks behind the last tap, "
        "2 of classifier"
    )


def test_the_average_of_a_run_starts_from_the_file_too(
    timm_nano, official, toy_detector, load_from, tmp_path
):
    """EMAHook copies the state dict, which a bare file does not have before our hook ran."""
    torch.save({"model": official(timm_nano.state_dict())}, tmp_path / "imagenet.pth")
    hook, kept = EMAHook(), {}
    hook.after_load_checkpoint = lambda runner, checkpoint: kept.update(checkpoint)
    load_from(toy_detector(), tmp_path / "imagenet.pth", [hook, {"type": "LoadReportHook"}])
    assert "backbone.trunk.blocks.3.ffn.fc1.weight" in kept["state_dict"]


@pytest.mark.parametrize("wrap", ["tta", "ddp"])
def test_wrapped_models(wrap, timm_nano, toy_detector, log):
    class Averaged(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            raise NotImplementedError

    model = toy_detector()
    if wrap == "tta":
        wrapped = Averaged(module=model)
    else:  # without the process group that its constructor wants
        wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
        torch.nn.Module.__init__(wrapped)
        wrapped.module = model
    checkpoint = after_load(wrapped, {"model": timm_nano.state_dict()})
    model.load_state_dict(checkpoint["state_dict"], strict=False)
    weight = timm_nano.state_dict()["blocks.3.mlp.fc1.weight"]
    assert torch.equal(model.backbone.trunk.blocks[3].ffn.fc1.weight, weight)


def test_every_xcit_of_a_model_takes_a_bare_file(timm_nano, toy_detector):
    pair = torch.nn.ModuleDict({"student": toy_detector(), "teacher": toy_detector()})
    checkpoint = after_load(pair, {"model": timm_nano.state_dict()})
    pair.load_state_dict(checkpoint["state_dict"], strict=False)
    for model in pair.values():
        weight = timm_nano.state_dict()["blocks.11.gamma2"]
        assert torch.equal(model.backbone.trunk.blocks[11].ffn_layer_scale, weight)


def test_the_flexible_runner_takes_a_bare_file(timm_nano, toy_detector, tmp_path):
    torch.save(dict(timm_nano.state_dict()), tmp_path / "timm.pth")
    runner = FlexibleRunner(
        model=toy_detector(),
        work_dir=str(tmp_path / "work_dir"),
        load_from=str(tmp_path / "timm.pth"),
        custom_hooks=[{"type": "LoadReportHook"}],
        strategy={"type": "SingleDeviceStrategy"},
        experiment_name=tmp_path.name,
    )
    runner.strategy.prepare(runner.model)
    runner.model = runner.strategy.model
    runner.load_or_resume()
    weight = timm_nano.state_dict()["blocks.11.gamma2"]
    assert torch.equal(runner.model.backbone.trunk.blocks[11].ffn_layer_scale, weight)


def test_a_copied_model_loads_published_names_into_itself(timm_nano, toy_detector):
    """EMA and others copy models; the copy of a hook must not fill the original."""
    original = toy_detector().backbone
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    copied = copy.deepcopy(original)
    copied.load_state_dict(timm_nano.state_dict(), strict=False)
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, before[name])
    weight = timm_nano.state_dict()["blocks.11.gamma2"]
    assert torch.equal(copied.trunk.blocks[11].ffn_layer_scale, weight)
