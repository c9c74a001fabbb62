"""Every published format fills a backbone and a whole model, and the log says what was taken."""

import copy
import itertools

import pytest
import timm
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseTTAModel, MMDistributedDataParallel
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

from xcit_dense.errors import UserError
from xcit_dense.mm.loading import LoadReportHook
from xcit_dense.weights import rename_state_dict
from xcit_dense.weights.checkpoint_keys import join_class_attention


@pytest.fixture(scope="module")
def published():
    """Timm's classification model XCiT-N12/16, with random weights and statistics."""
    torch.manual_seed(3)
    model = timm.create_model("xcit_nano_12_p16_224").eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2)
        elif tensor.is_floating_point():
            tensor.mul_(1.1).add_(0.01)
    return model


def official(tensors):
    """Under the names of the paper's release."""
    return {k.replace("embed.", "embeder.", 1) if k.startswith("pos_") else k: t
            for k, t in join_class_attention(tensors).items()}  # fmt: skip


def of_backbone(tensors, prefix):
    return {prefix + k: t for k, t in tensors.items() if not k.startswith(("cls", "norm", "head"))}


FORMATS = {
    "release": lambda t: {"model": {f"module.{k}": v for k, v in official(t).items()}},
    "release, self-supervised": lambda t: {k: v for k, v in official(t).items() if "head" not in k},
    "release, dense": lambda t: {
        "state_dict": {**of_backbone(official(t), "backbone."), "head.bias": torch.ones(2)},
        "meta": {"epoch": 36},
    },
    "timm": dict,
    "timm, dense": lambda t: {"state_dict": of_backbone(t, "module.backbone."), "meta": {}},
    "ours, dense": lambda t: {
        "state_dict": rename_state_dict(of_backbone(t, "backbone."), "xcit_dense")
    },
}


def save(checkpoint, folder):
    torch.save(checkpoint, folder / "published.pth")
    return folder / "published.pth"


def from_init_cfg(path, **options):
    init_cfg = {"type": "Pretrained", "checkpoint": str(path), **options}
    backbone = MODELS.build({"type": "XCiT", "arch": "nano_12", "init_cfg": init_cfg})
    backbone.init_weights()
    return backbone


def load_from(model, path, folder, runner=Runner, hooks=({"type": "LoadReportHook"},), **options):
    """Load a checkpoint into a whole model as a training run does."""
    runner = runner(
        model=model,
        work_dir=str(folder / "work_dir"),
        load_from=str(path),
        custom_hooks=list(hooks),
        experiment_name=folder.name,
        **options,
    )
    if isinstance(runner, FlexibleRunner):
        runner.strategy.prepare(runner.model)
        runner.model = runner.strategy.model
    runner.load_or_resume()
    return runner.model


def assert_trunk_is(backbone, published):
    wanted = rename_state_dict(published.state_dict(), "xcit_dense")
    for name, tensor in backbone.trunk.state_dict().items():
        assert torch.equal(tensor, wanted[f"trunk.{name}"]), name


@pytest.mark.parametrize("way", ["init_cfg", "load_from"])
@pytest.mark.parametrize("kind", FORMATS)
def test_published_formats_fill_the_trunk(kind, way, published, tmp_path, toy_detector, log):
    path = save(FORMATS[kind](published.state_dict()), tmp_path)
    if way == "init_cfg":
        backbone = from_init_cfg(path)
    else:
        backbone = load_from(toy_detector(arch="nano_12"), path, tmp_path).backbone
    assert_trunk_is(backbone, published)
    assert "350" in log[0]
    assert "not in the model" not in log[0]
    if kind == "timm":
        assert "left out on purpose: 39 of class attention, 2 of classifier" in log[0]


def test_names_of_timm_as_addresses(published, monkeypatch, tmp_path, toy_detector):
    """Timm fetches the release's file and fits it to its own model; only the fetching is faked."""
    fetch = lambda *_, **__: official(published.state_dict())  # noqa: E731
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", fetch)
    name = "timm://xcit_nano_12_p16_384.fb_dist_in1k"
    assert_trunk_is(from_init_cfg(name), published)
    assert_trunk_is(load_from(toy_detector(arch="nano_12"), name, tmp_path).backbone, published)


def test_a_prefix_of_ones_own(published, tmp_path, log):
    tensors = {f"teacher.encoder.{k}": t for k, t in published.state_dict().items()}
    path = save({"state_dict": {**tensors, "student.x": torch.ones(1)}}, tmp_path)
    assert_trunk_is(from_init_cfg(path, prefix="teacher.encoder"), published)
    assert "1 of the rest of the model" in log[0]
    with pytest.raises(UserError, match=r"published\.pth.*student\.x.*'nowhere\.'"):
        from_init_cfg(path, prefix="nowhere")


@torch.no_grad()
def test_other_image_channels(tmp_path, toy_detector, log):
    """An image whose channels are all equal looks as before."""
    source, model = toy_detector(in_channels=3), toy_detector(seed=1, in_channels=4)
    path = save({"state_dict": source.state_dict()}, tmp_path)
    load_from(model, path, tmp_path)
    gray = torch.randn(1, 1, 64, 96)
    levels = [m.eval()(gray.expand(-1, n, -1, -1)) for m, n in ((source, 3), (model, 4))]
    for want, level in zip(*levels, strict=True):
        assert (level - want).abs().max() <= 1e-4 * want.abs().max()
    assert "from 3 to 4 image channels" in log[-1]


class FakeRunner:
    """What the hook asks of a runner."""

    def __init__(self, model, resume=False, max_epochs=9, T_max=4):
        self.model, self._resume, self._load_from = model, resume, "other.pth"
        self.cfg = {"train_cfg": {"max_epochs": max_epochs}}
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        self.optim_wrapper = OptimWrapper(optimizer)
        self.param_schedulers = [CosineAnnealingLR(optimizer, T_max=T_max)]

    def state(self):
        """What it would save beside the weights, after two epochs."""
        return {
            "meta": {"epoch": 2, "iter": 20},
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": [each.state_dict() for each in self.param_schedulers],
        }


class Averaged(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        raise NotImplementedError


def after_load(model, checkpoint, complete=False, **options):
    hook, runner = LoadReportHook(complete), FakeRunner(model, **options)
    hook.after_load_checkpoint(runner, checkpoint)
    return checkpoint


class TestWholeModels:
    def test_every_tensor_arrives_and_heads_for_other_classes_are_named(self, toy_detector, log):
        source, model = toy_detector(), toy_detector(seed=1)
        model.head = nn.Linear(4, 7)
        checkpoint = after_load(model, {"state_dict": source.state_dict()})
        fitted = checkpoint["state_dict"]
        assert all(torch.equal(fitted[name], t) for name, t in source.state_dict().items())
        assert "head 0/2" in log[0]
        assert "head.weight (2, 4), in the model (7, 4)" in log[0]

    @pytest.mark.parametrize(
        ("lost", "given", "told"),
        [
            ("head.bias", {}, "lacks 1 of .* head.bias"),
            (None, {"head.bias": torch.zeros(9)}, r"another shape, head.bias \(9,\)"),
            (None, {"backbone.more": torch.zeros(9)}, r"no place in the backbone, backbone.more"),
            (None, {"head.bias": torch.full((2,), torch.nan)}, "head.bias has values that are NaN"),
            (None, {"head.more": torch.zeros(9)}, None),
        ],
    )
    def test_a_test_wants_all_that_the_model_predicts_with(self, toy_detector, lost, given, told):
        state_dict = toy_detector().state_dict() | given
        state_dict.pop(lost, None)
        if told is None:
            after_load(toy_detector(), {"state_dict": state_dict}, complete=True)
            return
        with pytest.raises(UserError, match=rf"other\.pth.*{told}"):
            after_load(toy_detector(), {"state_dict": state_dict}, complete=True)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"T_max": 8}, ["param_scheduler.0.T_max=4 (config: 8)"]),
            ({"max_epochs": 2}, ["nothing is left", "epoch 2"]),
        ],
    )
    def test_a_resume_says_what_of_the_config_has_no_effect(self, toy_detector, log, options, told):
        saved = {"state_dict": toy_detector().state_dict(), **FakeRunner(None).state()}
        after_load(toy_detector(), saved, resume=True, **options)
        assert len(log) == 1 and all(part in log[0] for part in told)

    def test_a_resume_needs_the_state_of_the_schedule(self, toy_detector):
        saved = {"state_dict": toy_detector().state_dict(), **FakeRunner(None).state()}
        saved["param_schedulers"] = [{}]
        with pytest.raises(UserError, match=r"param_schedulers\.0 .*CosineAnnealingLR.*T_max"):
            after_load(toy_detector(), saved, resume=True)
        del saved["param_schedulers"]
        with pytest.raises(UserError, match=r"param_schedulers.*load_from=other\.pth"):
            after_load(toy_detector(), saved, resume=True)

    def test_a_complete_resume_says_nothing_and_keeps_the_versions_of_modules(
        self, toy_detector, log
    ):
        state_dict = toy_detector().state_dict()
        versions = copy.deepcopy(state_dict._metadata)
        saved = {"state_dict": state_dict, **FakeRunner(None).state()}
        checkpoint = after_load(toy_detector(), saved, resume=True)
        assert log == []
        assert checkpoint["state_dict"]._metadata == versions

    def test_a_file_without_any_tensor_of_the_model_is_an_error(self, toy_detector):
        with pytest.raises(UserError, match=r"other\.pth.*layer1\.weight.*backbone"):
            after_load(toy_detector(), {"model": {"layer1.weight": torch.zeros(1)}})

    @pytest.mark.parametrize("way", ["hook", "torch"])
    def test_another_backbone_is_an_error(self, way, toy_detector):
        given, model = toy_detector(patch_size=8).state_dict(), toy_detector()
        with pytest.raises(UserError, match=r"num_heads=4\)/8.*num_heads=4\)/16"):
            if way == "hook":
                after_load(model, {"state_dict": given})
            else:
                model.load_state_dict(given, strict=False)

    @pytest.mark.parametrize("kind", [Averaged, MMDistributedDataParallel])
    def test_every_xcit_in_a_wrapped_model_takes_a_bare_file(self, kind, toy_detector):
        source = toy_detector().backbone
        target = nn.ModuleDict({name: toy_detector(seed=1) for name in ("student", "teacher")})
        model = kind.__new__(kind)  # without the process group that a constructor wants
        nn.Module.__init__(model)
        model.module = target
        target.load_state_dict(after_load(model, source.state_dict())["state_dict"], strict=False)
        for (name, tensor), part in itertools.product(source.state_dict().items(), target.values()):
            assert torch.equal(part.backbone.state_dict()[name], tensor), name

    def test_the_flexible_runner_and_the_average_of_a_run(self, toy_detector, tmp_path):
        """EMAHook copies the state dict, which a bare file does not have before our hook ran."""
        source, kept, hook = toy_detector().backbone, {}, EMAHook()
        hook.after_load_checkpoint = lambda runner, checkpoint: kept.update(checkpoint)
        model = load_from(
            toy_detector(seed=1),
            save(source.state_dict(), tmp_path),
            tmp_path,
            runner=FlexibleRunner,
            hooks=[hook, HOOKS.build({"type": "LoadReportHook"})],
            strategy={"type": "SingleDeviceStrategy"},
        )
        for name, tensor in source.state_dict().items():
            assert torch.equal(model.backbone.state_dict()[name], tensor)
            assert torch.equal(kept["state_dict"][f"backbone.{name}"], tensor)

    def test_a_copied_model_loads_published_names_into_itself(self, toy_detector):
        """EMA and others copy models; the copy of a hook must not fill the original."""
        original, source = toy_detector(seed=1).backbone, toy_detector()
        before = copy.deepcopy(original.state_dict())
        copied = copy.deepcopy(original)
        published = rename_state_dict(source.backbone.state_dict(), "official")
        copied.load_state_dict(published)
        for name, tensor in source.backbone.state_dict().items():
            assert torch.equal(copied.state_dict()[name], tensor)
            assert torch.equal(original.state_dict()[name], before[name])
