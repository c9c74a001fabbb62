"""What is written loads as what was swapped."""

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn
from xcit_dense.swap.config_difference import (
    LINE_LENGTH,
    as_literals,
    as_source,
    difference,
)
from xcit_dense.swap.config_source import ConfigSource
from xcit_dense.swap.new_style import new_style_text
from xcit_dense.swap.written_config import config_text

from xcit_dense.cli import swap as swap_backbone
from xcit_dense.swap import SwapError, plan_swap

CONFIGS = Path(__file__).parents[2] / "configs"
READY = {
    "cascade_maskrcnn/xcit_small_12_p16_cascade_maskrcnn_coco.py": (
        "mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_ms-3x_coco.py"
    ),
    "dino/xcit_small_12_p16_dino_coco.py": "mmdet::dino/dino-4scale_r50_8xb2-36e_coco.py",
    "mask2former/xcit_small_12_p16_mask2former_ade20k.py": (
        "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py"
    ),
    "mask2former/xcit_small_12_p16_mask2former_coco.py": (
        "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"
    ),
    "retinanet/xcit_small_12_p16_retinanet_coco.py": (
        "mmdet::retinanet/retinanet_r50_fpn_ms-640-800-3x_coco.py"
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
        "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py",
        "mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py",
        "mmdet::ssd/ssd300_coco.py",
        "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py",
        "mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py",
        "mmseg::ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py",
    ],
)
def test_the_written_config_loads_as_the_swapped_one(name, tmp_path):
    source, out = ConfigSource.find(name), tmp_path / "out.py"
    old = source.load()
    swap = plan_swap(old, "nano_12")
    out.write_text(config_text(source, old, swap, out, "A title"))
    assert Config.fromfile(out).to_dict() == swap.config.to_dict()
    lines = out.read_text().splitlines()
    assert lines[0] == "# A title"
    assert all(len(line) <= LINE_LENGTH for line in lines)


def test_a_config_of_the_users_is_named_by_its_relative_path(tmp_path):
    mine, out = tmp_path / "mine" / "resnet.py", tmp_path / "out.py"
    mine.parent.mkdir()
    mine.write_text('_base_ = "mmdet"\n')
    assert ConfigSource.find(str(mine)).base_expression(out) == '"mine/resnet.py"'
    assert ConfigSource.find(str(mine)).base_expression(mine.with_name("b.py")) == '"resnet.py"'


@pytest.mark.parametrize("name", ["plain.py", 'with "quotes" and + signs.py', "größe.py"])
@pytest.mark.parametrize("linked", ["nothing", "folder of out", "config", "folder of config"])
def test_a_base_is_found_through_links(name, linked, tmp_path, monkeypatch):
    """Work directories often lie on another disk, behind a link."""
    real = tmp_path / "disk" / "deep" / "er"
    configs, outs = tmp_path / "configs", tmp_path / "outs"
    for folder in (real, configs, outs):
        folder.mkdir(parents=True)
    mine = configs / name
    (configs / "base.py").write_text("a = dict(b=1)\n")
    if linked == "config":
        (real / "base.py").write_text("a = dict(b=1)\n")
        (real / name).write_text('_base_ = "base.py"\n')
        mine.symlink_to(real / name)
    else:
        mine.write_text('_base_ = "base.py"\n')
    if linked == "folder of out":
        outs = configs / "linked"
        outs.symlink_to(real)
    if linked == "folder of config":
        (tmp_path / "elsewhere").symlink_to(configs)
        mine = tmp_path / "elsewhere" / name
    monkeypatch.chdir(tmp_path)
    out = outs.relative_to(tmp_path) / "out.py"
    expression = ConfigSource(mine.relative_to(tmp_path)).base_expression(out)
    out.write_text(f"_base_ = {expression}\na = dict(c=2)\n")
    monkeypatch.chdir("/")
    assert Config.fromfile(tmp_path / out).a == {"b": 1, "c": 2}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mmdet::no/such.py", "config mmdet::no/such.py does not exist: looked for .*no/such.py"),
        (
            "mmdet::retinanet/retinanet_r50_fpn_1x.py",
            "similar: mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
        ),
        ("nothing.py", "config nothing.py does not exist"),
        ("mmpose::a.py", "config mmpose::a.py: must begin with one of mmdet, mmseg"),
    ],
)
def test_a_config_that_is_not_there_is_named(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        ConfigSource.find(name)


def random_value(rng, depth):
    kinds = ["int", "text", "none", "list", "tuple"] + ["dict"] * (2 * depth)
    kind = rng.choice(kinds)
    if kind == "dict":
        keys = rng.sample(["a", "b", "c", "d", "lambda", "x.y", "type"], rng.randint(0, 4))
        return {key: random_value(rng, depth - 1) for key in keys}
    return {
        "int": rng.randint(0, 2),
        "text": rng.choice(["", 'quo"te', "it's", "a" * 70, "back\\slash", "line\nbreak"]),
        "none": None,
        "list": [rng.choice([7, "s", [1]]) for _ in range(rng.randint(0, 30))],
        "tuple": (1,) * rng.randint(0, 3),
    }[kind]


def random_config(rng):
    return {name: random_value(rng, 3) for name in rng.sample("opqrst", 4)}


@pytest.mark.parametrize("seed", range(120))
def test_old_merged_with_the_difference_is_new(seed, tmp_path):
    """For any two configs, by mmengine's own merging of files."""
    rng = random.Random(seed)
    old, new = random_config(rng), random_config(rng)
    new = {**old, **new}  # a name at the top can not be taken away
    (tmp_path / "old.py").write_text(as_source(old))
    written = as_source(difference(old, new))
    (tmp_path / "new.py").write_text(f'_base_ = "old.py"\n{written}')
    loaded = Config.fromfile(tmp_path / "new.py").to_dict()
    assert loaded == new
    assert repr_of_kinds(loaded) == repr_of_kinds(new)


@pytest.mark.parametrize("seed", range(120))
def test_old_merged_with_the_difference_is_new_in_the_new_style(seed, tmp_path):
    rng = random.Random(seed)
    old, new = random_config(rng), random_config(rng)
    new = {**old, **new}
    imports = "from mmengine.optim import OptimWrapper\n"  # what makes it one of the new style
    (tmp_path / "old.py").write_text(imports + as_source(old))
    (tmp_path / "new.py").write_text(new_style_text(difference(old, new), old, ".old"))
    loaded = Config.fromfile(tmp_path / "new.py").to_dict()
    assert loaded == new
    assert repr_of_kinds(loaded) == repr_of_kinds(new)


def repr_of_kinds(value):
    """Dicts without order; lists and tuples told apart."""
    if isinstance(value, dict):
        return sorted((key, repr_of_kinds(inner)) for key, inner in value.items())
    return repr(value)


def test_only_what_changes_is_written():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    assert difference(old, {"a": {"b": 1, "c": [1, 3]}, "d": 2}) == {"a": {"c": [1, 3]}}
    assert difference(old, old) == {}
    assert difference(old, {"a": {"b": 1}, "d": 2}) == {"a": {"_delete_": True, "b": 1}}
    assert difference({"a": None}, {"a": {"b": 1}}) == {"a": {"_delete_": True, "b": 1}}


def test_what_a_config_holds_beside_literals_is_written_as_such():
    numbers = [np.float64(1.5), np.int64(2)]
    values = {"a": numbers, "b": {"type": nn.Linear}, "c": {numbers[1]: {3}}}
    text = as_source(as_literals(values, "x"))
    assert text == 'a = [1.5, 2]\nb = dict(type="torch.nn.modules.linear.Linear")\nc = {2: {3}}\n'


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.zeros(2), "ndarray"),
        (torch.zeros(2), "Tensor"),
        (signal.SIGINT, "Signals"),
        (len, "builtin_function_or_method"),
        (nn.Linear, "type"),  # that is no type of a dict, and would be built from its name
    ],
)
def test_what_has_no_literal_is_named_with_its_place(value, kind):
    with pytest.raises(SwapError, match=rf"^x\.a\.1\.b: {kind} has no literal"):
        as_literals({"a": [0, {"b": value}]}, "x")


def test_a_class_that_nobody_can_import_is_named_with_its_place():
    with pytest.raises(SwapError, match=r"^x\.type: Mine is a class that can not be imported"):
        as_literals({"type": type("Mine", (), {"__module__": "builtins"})}, "x")


@pytest.mark.parametrize("array", [np.arange, torch.arange])
def test_arrays_that_stay_are_no_change(array):
    old = {"a": {"b": array(3), "c": [array(3)]}, "d": 1}
    new = {"a": {"b": array(3), "c": [array(3)]}, "d": 2}
    assert difference(old, new) == {"d": 2}
    new["a"]["c"][0][1] = 7
    assert difference(old, new).keys() == {"a", "d"}


def test_source_is_short():
    assert as_source({"neck": {"in_channels": [384] * 4}}) == "neck = dict(in_channels=[384] * 4)\n"
    assert as_source({"a": {"x.y": True, "b": ("c",)}}) == 'a = {"x.y": True, "b": ("c",)}\n'
    assert as_source({"a": [float("inf"), 1.0]}) == 'a = [float("inf"), 1.0]\n'


@pytest.mark.parametrize("name", READY)
def test_the_ready_configs_are_what_the_tool_writes(name, tmp_path):
    swap_backbone.main([READY[name], "-o", str(tmp_path / "out.py"), "--no-check"])
    assert (tmp_path / "out.py").read_text() == (CONFIGS / name).read_text()


def test_the_ready_configs_are_these():
    folders = {name.partition("/")[0] for name in READY}
    found = {f"{path.parent.name}/{path.name}" for path in CONFIGS.glob("*/xcit_*.py")}
    assert {name for name in found if name.partition("/")[0] in folders} == READY.keys()
