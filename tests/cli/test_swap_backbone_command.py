"""The command line of the swap, on real files: it writes what is healthy, and loses nothing."""

import pytest
import torch
from mmengine.config import Config

import xcit_dense
from xcit_dense.cli import swap as swap_backbone
from xcit_dense.errors import UserError

RETINANET = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
MINE = (
    '_base_ = __import__("mmdet").__path__[0] + '
    '"/.mim/configs/retinanet/retinanet_r18_fpn_1x_coco.py"\n'
)
SICK = "model = dict(bbox_head=dict(anchor_generator=dict(strides=[4, 8, 16, 32, 64])))\n"
NUMPY = "param_scheduler = [dict(type='MultiStepLR', x=__import__('numpy').zeros(2))]\n"


def swap(*arguments):
    swap_backbone.main([str(argument) for argument in arguments])


def test_a_healthy_swap_is_checked_and_then_written(tmp_path, capsys):
    mine, out = tmp_path / "mine.py", tmp_path / "configs" / "xcit.py"
    mine.write_text(f"{MINE}model = dict(bbox_head=dict(num_classes=3))\n")
    swap(mine, "--arch", "nano_12", "-o", out, "--size", 64, 128)
    notes, _, report = capsys.readouterr().out.partition("RetinaNet: ")
    assert "AdamW" in notes
    assert report.endswith(f"healthy\nwritten: {out}\n")
    assert '_base_ = "../mine.py"' in out.read_text()
    assert Config.fromfile(out).model.backbone.arch == "nano_12"


def test_what_is_not_healthy_replaces_nothing_unless_told(tmp_path, capsys):
    mine, out = tmp_path / "mine.py", tmp_path / "out.py"
    mine.write_text(MINE + SICK)
    out.write_text("a = 1\n")
    options = ["--arch", "nano_12", "-o", out, "--size", 64, 128, "--force"]
    with pytest.raises(UserError, match=r"not healthy .*--no-check.*nothing is written"):
        swap(mine, *options)
    assert "wrong: model.bbox_head.prior_generator.strides" in capsys.readouterr().out
    assert out.read_text() == "a = 1\n"
    swap(mine, *options, "--no-check")
    assert Config.fromfile(out).model.backbone.type == "XCiT"


@pytest.mark.parametrize(
    ("config", "options", "error"),
    [
        ("mmseg::unet/unet-s5-d16_fcn_4xb4-40k_stare-128x128.py", [], "UNet is more than"),
        ("mmdet::retinanet/retinanet_r50_fpn_1x.py", [], "retinanet_r50_fpn_1x_coco.py"),
        (RETINANET, ["--arch", "huge"], "'huge' is unknown; known: nano_12"),
        (RETINANET, ["--weights", "384_distt"], "--weights 384_distt: no such file.*384_dist,"),
        (RETINANET, ["--arch", "tiny_12", "--weights", "nano.pth"], "nano.pth"),
        (RETINANET, ["-o", "out.yaml"], r"out.yaml: OUT must end in \.py"),
        (RETINANET, ["-o", "folder.py", "--force", "--no-check"], "folder.py"),
        (RETINANET, ["-o", "there.py"], "there.py is there already; --force"),
        (RETINANET, ["-o", "there.py/out.py", "--no-check"], "there.py"),
        ("child.py", ["-o", "there.py", "--force"], "there.py is a part of the config"),
        ("there.py", ["-o", "there.py", "--force"], "there.py is a part of the config"),
        ("broken.py", [], "broken.py: SyntaxError"),
        ("numpy.py", ["--no-check"], "numpy.py: param_scheduler: .*no literal.*nothing is written"),
    ],
)
def test_nothing_is_written_where_it_cannot_be_done(config, options, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    torch.save({"model": xcit_dense.XCiT("nano_12").state_dict()}, "nano.pth")
    texts = {
        "there.py": "a = 1\n",
        "child.py": '_base_ = "there.py"\n',
        "broken.py": "model = dict(\n",
        "numpy.py": MINE + NUMPY,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UserError, match=error):
        swap(config, "-o", "out.py", *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert {name: (tmp_path / name).read_text() for name in texts} == texts


def test_weights_are_taken_by_their_kind_or_from_a_file_that_fits(tmp_path):
    out, weights = tmp_path / "out.py", tmp_path / "weights.pth"
    swap(RETINANET, "--weights", "-o", out, "--no-check")
    checkpoint = Config.fromfile(out).model.backbone.init_cfg.checkpoint
    assert checkpoint == "https://dl.fbaipublicfiles.com/xcit/xcit_small_12_p16_384_dist.pth"
    torch.save({"model": xcit_dense.XCiT("nano_12").state_dict()}, weights)
    swap(RETINANET, "--arch", "nano_12", "--weights", weights, "-o", out, "--no-check", "--force")
    assert Config.fromfile(out).model.backbone.init_cfg.checkpoint == str(weights)
