"""What is written loads as what was swapped, in either style of mmengine."""

import random
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from xcit_dense.mm.config import read_config
from xcit_dense.swap import Swap, SwapError, plan_swap
from xcit_dense.swap.text import LINE_LENGTH, config_text

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = ("cascade_maskrcnn", "dino", "mask2former", "retinanet")
READY = [path for folder in FOLDERS for path in sorted((CONFIGS / folder).glob("*.py"))]
NEW_STYLE = """
from mmdet.models import FCOS, FPN, DetDataPreprocessor, ResNet
from mmengine.optim import MultiStepLR, OptimWrapper
from torch.optim import SGD

default_scope = "mmdet"
neck = dict(type=FPN, in_channels=[64, 128, 256, 512], out_channels=64, num_outs=5)
model = dict(type=FCOS, backbone=dict(type=ResNet, depth=18), neck=neck)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.01, momentum=0.9))
param_scheduler = [dict(type=MultiStepLR, milestones=[8, 11])]
"""


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_config_is_what_the_tool_writes_and_loads_as_what_was_swapped(path):
    lines = path.read_text().splitlines()
    title = " ".join(line[2:] for line in lines[:2])
    name, arch, patch_size = re.match(
        r"XCiT in (\S+), by tools/swap_backbone.py --arch (\S+) --patch-size (\d+)$", title
    ).groups()
    old = read_config(name)
    swap = plan_swap(old, arch, int(patch_size))
    assert config_text(name, old, swap, path, title).splitlines() == lines
    assert Config.fromfile(path).to_dict() == swap.config.to_dict()
    assert all(len(line) <= LINE_LENGTH for line in lines)


@pytest.mark.parametrize("linked", ["", "out", "config"])
def test_a_base_is_found_through_links(linked, tmp_path, monkeypatch):
    """Work directories often lie on another disk, behind a link."""
    (tmp_path / "disk/deep/er").mkdir(parents=True)
    for folder in ("config", "out"):
        if folder == linked:
            (tmp_path / folder).symlink_to(tmp_path / "disk/deep/er")
        else:
            (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    mine, out = Path('config/with "quotes" and größe.py'), Path("out/out.py")
    mine.write_text("a = dict(b=1)\n")
    swap = Swap(Config({"a": {"b": 1, "c": 2}}), ("a note",))
    out.write_text(config_text(str(mine), Config.fromfile(mine), swap, out, "Title"))
    monkeypatch.chdir("/")
    assert Config.fromfile(tmp_path / out).a == {"b": 1, "c": 2}


def random_value(rng, depth):
    kind = rng.choice(["int", "text", "none", "list", "tuple"] + ["dict"] * (2 * depth))
    if kind == "dict":
        keys = rng.sample(["a", "b", "c", "d", "lambda", "x.y", "type"], rng.randint(0, 4))
        return {key: random_value(rng, depth - 1) for key in keys}
    return {
        "int": rng.choice([0, 1, True, 1.0, float("inf")]),
        "text": rng.choice(["", 'quo"te', "it's", "a" * 70, "back\\slash", "line\nbreak"]),
        "none": None,
        "list": [rng.choice([7, "s", [1], {"k": 1}]) for _ in range(rng.randint(0, 30))],
        "tuple": (1,) * rng.randint(0, 3),
    }[kind]


def kinds(value):
    """Dicts without order; lists and tuples, and numbers of every kind, told apart."""
    if isinstance(value, dict):
        return sorted((key, kinds(inner)) for key, inner in value.items())
    return repr(value)


# an import of more than the standard library makes a config one of the new style
@pytest.mark.parametrize("imports", ["", "from mmengine.optim import OptimWrapper\n"])
def test_old_merged_with_what_is_written_is_new(imports, tmp_path):
    """For any two configs, by mmengine's own merging of files."""
    path, out = tmp_path / "old.py", tmp_path / "new.py"
    for seed in range(30):
        rng = random.Random(seed)
        old, new = ({name: random_value(rng, 3) for name in rng.sample("opqrst", 4)} for _ in "12")
        new = {**old, **new}  # a name at the top can not be taken away
        written = "".join(f"{name} = {value!r}\n" for name, value in old.items())
        path.write_text(imports + "inf = float('inf')\n" + written + "del inf\n")
        loaded = Config.fromfile(path)
        out.write_text(config_text(str(path), loaded, Swap(Config(new), ()), out, "A title"))
        assert kinds(Config.fromfile(out).to_dict()) == kinds(new), seed


@pytest.mark.parametrize(
    ("path", "out", "module"),
    [
        ("a.py", "b.py", ".a"),
        ("a.py", "x/b.py", "..a"),
        ("x/größe.py", "b.py", ".x.größe"),
        ("a.py", "link/b.py", "...a"),
    ],
)
def test_the_new_style_is_answered_in_it(path, out, module, tmp_path):
    (tmp_path / "disk/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk/deep")
    path, out = tmp_path / path, tmp_path / out
    for file in (path, out):
        file.parent.mkdir(exist_ok=True)
    path.write_text(NEW_STYLE)
    old = Config.fromfile(path)
    swap = plan_swap(old, "nano_12")
    out.write_text(config_text(str(path), old, swap, out, "Title"))
    assert f"from {module} import *\n" in out.read_text()
    written, swapped = Config.fromfile(out).to_dict(), swap.config.to_dict()
    assert written["model"]["backbone"].pop("type") == "xcit_dense.XCiT"
    assert swapped["model"]["backbone"].pop("type") == "XCiT"
    assert written == {key: swapped[key] for key in swapped if key != "custom_imports"}


@pytest.mark.parametrize("name", ["my-config.py", "3x.py", "class.py"])
def test_names_that_can_not_be_imported_are_an_error(name, tmp_path):
    path = tmp_path / name
    path.write_text(NEW_STYLE)
    old = Config.fromfile(path)
    with pytest.raises(SwapError, match=f"'{path.stem}' .*rename it"):
        config_text(str(path), old, Swap(old, ()), tmp_path / "b.py", "Title")
