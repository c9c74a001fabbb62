"""Configs in mmengine's new style, which import classes and each other."""

import pytest
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from xcit_dense.swap.new_style import (
    inherits_from,
    is_new_style,
    module_of,
    new_style_text,
)

import xcit_dense
from xcit_dense.cli import swap as swap_backbone
from xcit_dense.cli.train import use_amp, use_pretrained
from xcit_dense.errors import UserError
from xcit_dense.mm.config_tree import type_name

MODEL = """
from mmdet.models import FCOS, FPN, DetDataPreprocessor, FCOSHead, ResNet

default_scope = "mmdet"
neck = dict(
    type=FPN, in_channels=[64, 128, 256, 512], start_level=1, out_channels=64, num_outs=5,
    add_extra_convs="on_output",
)
model = dict(
    type=FCOS,
    data_preprocessor=dict(
        type=DetDataPreprocessor, mean=[102.9, 115.9, 122.7], std=[1.0] * 3, bgr_to_rgb=False
    ),
    backbone=dict(type=ResNet, depth=18),
    neck=neck,
    bbox_head=dict(
        type=FCOSHead, num_classes=3, in_channels=64, feat_channels=64,
        strides=[8, 16, 32, 64, 128],
    ),
    test_cfg=dict(
        nms_pre=100, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=10
    ),
)
"""
RUN = """
from mmengine.config import read_base
from mmengine.optim import MultiStepLR, OptimWrapper
from torch.optim import SGD

with read_base():
    from .models.fcos import *

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.01, momentum=0.9))
param_scheduler = [dict(type=MultiStepLR, milestones=[8, 11])]
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "fcos.py").write_text(MODEL)
    path.write_text(RUN)
    return path


def swap(*arguments):
    swap_backbone.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("out", ["xcit.py", "models/xcit.py", "further/down/xcit.py"])
def test_what_is_written_is_what_is_swapped(mine, out):
    out = mine.parent / out
    swap(mine, "--arch", "nano_12", "-o", out, "--no-check")
    written = Config.fromfile(out).to_dict()
    assert written["model"]["backbone"].pop("type") == "xcit_dense.XCiT"
    swapped = xcit_dense.swap_backbone(Config.fromfile(mine), "nano_12").to_dict()
    assert swapped["model"]["backbone"].pop("type") == "XCiT"
    swapped.pop("custom_imports")
    assert written == swapped
    assert swapped["model"]["neck"]["in_channels"] == [128] * 3


def test_what_is_written_is_short_and_healthy(mine, capsys):
    out = mine.with_name("xcit.py")
    swap(mine, "--arch", "nano_12", "-o", out, "--size", 64, 128)
    assert capsys.readouterr().out.endswith("healthy\n")
    text = out.read_text()
    head = "from mmengine.config import read_base\nfrom mmengine.optim import MultiStepLR\n"
    assert (
        f"{head}from xcit_dense import XCiT\n\nwith read_base():\n    from .mine import *" in text
    )
    assert "        type=XCiT,\n" in text
    assert "    dict(type=MultiStepLR, milestones=[8, 11]),\n" in text
    assert "bbox_head" not in text


def test_options_of_training_know_its_classes(mine):
    out = mine.with_name("xcit.py")
    swap(mine, "--arch", "small_12", "-o", out, "--no-check")
    cfg = Config.fromfile(out)
    assert cfg.optim_wrapper.type is OptimWrapper
    use_amp(cfg)
    assert cfg.optim_wrapper.type == "MixedPrecisionOptimWrapper"
    use_pretrained(cfg, "384_dist")
    assert cfg.model.backbone.init_cfg.checkpoint.endswith("xcit_small_12_p16_384_dist.pth")
    old = Config.fromfile(mine)
    with pytest.raises(ValueError, match="the backbone of the config is ResNet"):
        use_pretrained(old, "384_dist")
    assert type_name(old.model) == "FCOS"


@pytest.mark.parametrize(
    ("path", "inheriting", "name"),
    [
        ("a.py", "b.py", ".a"),
        ("a.py", "x/b.py", "..a"),
        ("x/y/a.py", "b.py", ".x.y.a"),
        ("x/a.py", "y/z/b.py", "...x.a"),
        ("größe.py", "b.py", ".größe"),
    ],
)
def test_configs_are_named_as_modules(tmp_path, path, inheriting, name):
    assert module_of(tmp_path / path, tmp_path / inheriting) == name


def test_links_are_followed(tmp_path):
    (tmp_path / "disk/deep").mkdir(parents=True)
    (tmp_path / "outs").symlink_to(tmp_path / "disk/deep")
    assert module_of(tmp_path / "a.py", tmp_path / "outs/b.py") == "...a"


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("my-config.py", "rename it"),
        ("3x/a.py", "write OUT beside CONFIG"),
        ("class/a.py", "write OUT beside CONFIG"),
    ],
)
def test_names_that_can_not_be_imported_are_an_error(tmp_path, path, remedy):
    with pytest.raises(ValueError, match=rf"is no name that Python can import: {remedy}"):
        module_of(tmp_path / path, tmp_path / "b.py")


def test_nothing_is_written_where_it_could_not_inherit(mine):
    named = mine.rename(mine.with_name("my-fcos.py"))
    out = mine.with_name("xcit.py")
    with pytest.raises(UserError, match=r"'my-fcos' is no name .*; nothing is written"):
        swap(named, "-o", out)
    assert not out.exists()


def test_classes_of_one_name_are_told_apart():
    steps = [{"type": "torch.optim.lr_scheduler.LinearLR"}, {"type": "mmengine.optim.LinearLR"}]
    text = new_style_text({"steps": steps}, {}, ".old")
    assert "from torch.optim.lr_scheduler import LinearLR\n" in text
    assert 'steps = [dict(type=LinearLR), dict(type="mmengine.optim.LinearLR")]\n' in text
    assert steps[0] == {"type": "torch.optim.lr_scheduler.LinearLR"}


def test_none_inherits_from_itself(mine):
    base = mine.parent / "models" / "fcos.py"
    child = mine.with_name("child.py")
    child.write_text(RUN.replace(".models.fcos", ".mine"))
    assert inherits_from(child, base)
    assert inherits_from(mine, base)
    assert not inherits_from(base, mine)
    with pytest.raises(UserError, match=r"fcos\.py: .*mine\.py inherits from it"):
        swap(mine, "-o", base, "--force")
    assert base.read_text() == MODEL


def test_the_styles_are_told_apart(mine):
    old = mine.with_name("old.py")
    old.write_text('_base_ = "other.py"\n')
    assert is_new_style(mine)
    assert not is_new_style(old)
