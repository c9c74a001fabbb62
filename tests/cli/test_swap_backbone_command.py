"""The command lines of the swap and of the doctor, on real files."""

import pytest
import torch
from mmengine.config import Config

import xcit_dense
from xcit_dense.cli import doctor
from xcit_dense.cli import swap as swap_backbone
from xcit_dense.errors import UserError

RETINANET = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"


def swap(*arguments):
    swap_backbone.main([str(argument) for argument in arguments])


def test_a_config_of_the_users_is_swapped_and_checked(tmp_path, capsys):
    mine, out = tmp_path / "mine.py", tmp_path / "configs" / "xcit.py"
    mine.write_text(
        '_base_ = __import__("mmdet").__path__[0] + '
        '"/.mim/configs/retinanet/retinanet_r18_fpn_1x_coco.py"\n'
        "model = dict(bbox_head=dict(num_classes=3))\n"
    )
    swap(mine, "--arch", "nano_12", "-o", out, "--size", 64, 128)
    printed = capsys.readouterr().out
    assert f"written: {out}" in printed
    assert printed.endswith("healthy\n")
    assert '_base_ = "../mine.py"' in out.read_text()
    assert Config.fromfile(out).model.backbone.arch == "nano_12"

    doctor.main([str(out), "--size", "64", "128"])
    assert capsys.readouterr().out.endswith("healthy\n")
    with pytest.raises(SystemExit) as exit:
        doctor.main([str(out), "--cfg-options", "model.neck.in_channels=[128,128,1]"])
    assert exit.value.code == 1
    assert "model.neck.in_channels: [128, 128, 1]" in capsys.readouterr().out


def test_a_swap_that_is_not_healthy_ends_with_one(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(
        '_base_ = __import__("mmdet").__path__[0] + '
        '"/.mim/configs/retinanet/retinanet_r18_fpn_1x_coco.py"\n'
        "model = dict(bbox_head=dict(anchor_generator=dict(strides=[4, 8, 16, 32, 64])))\n"
    )
    with pytest.raises(SystemExit) as exit:
        swap(mine, "--arch", "nano_12", "-o", tmp_path / "out.py", "--size", 64, 128)
    assert exit.value.code == 1
    assert "wrong: model.bbox_head.anchor_generator.strides" in capsys.readouterr().out
    swap(mine, "--arch", "nano_12", "-o", tmp_path / "out.py", "--no-check", "--force")


def test_published_weights_are_taken_by_their_kind(tmp_path):
    out = tmp_path / "out.py"
    swap(RETINANET, "--weights", "-o", out, "--no-check")
    assert Config.fromfile(out).model.backbone.init_cfg == {
        "type": "Pretrained",
        "checkpoint": "https://dl.fbaipublicfiles.com/xcit/xcit_small_12_p16_384_dist.pth",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["mmseg::unet/unet-s5-d16_fcn_4xb4-40k_stare-128x128.py"],
            r"model.backbone: UNet is more than a backbone: .*; nothing is written",
        ),
        ([RETINANET, "--arch", "huge"], "arch='huge' is unknown; known: nano_12.*nothing is writ"),
        ([RETINANET, "--weights", "384_dist", "--arch", "large_12"], "'large_12'"),
        ([RETINANET, "--weights", "dino", "--arch", "tiny_12"], "no weights 'dino' are published"),
        (
            [RETINANET, "--weights", "384_distt"],
            r"--weights 384_distt: no such file, and no kind of published weights \(224, 224_dist",
        ),
    ],
)
def test_nothing_is_written_where_it_cannot_be_done(arguments, message, tmp_path):
    out = tmp_path / "out.py"
    with pytest.raises(UserError, match=message):
        swap(*arguments, "-o", out)
    assert not out.exists()


def test_a_file_of_weights_is_seen_to_fit(tmp_path):
    weights, out = tmp_path / "weights.pth", tmp_path / "out.py"
    torch.save({"model": xcit_dense.XCiT("nano_12").state_dict()}, weights)
    with pytest.raises(UserError, match=r"weights\.pth: .*tiny_12|weights\.pth: .*nano_12"):
        swap(RETINANET, "--arch", "tiny_12", "--weights", weights, "-o", out, "--no-check")
    assert not out.exists()
    swap(RETINANET, "--arch", "nano_12", "--weights", weights, "-o", out, "--no-check")
    assert Config.fromfile(out).model.backbone.init_cfg.checkpoint == str(weights)


def test_no_circle_is_written(tmp_path):
    mine, child, grandchild = (tmp_path / f"{name}.py" for name in "abc")
    mine.write_text('default_scope = "mmdet"\n')
    child.write_text('_base_ = "a.py"\n')
    grandchild.write_text('_base_ = ["b.py"]\n')
    for config in (child, grandchild):
        with pytest.raises(UserError, match=r"a\.py: .* inherits from it"):
            swap(config, "-o", mine, "--force")
    assert mine.read_text() == 'default_scope = "mmdet"\n'


def test_an_unknown_architecture_is_one_line(tmp_path):
    weights, out = tmp_path / "weights.pth", tmp_path / "out.py"
    torch.save({}, weights)
    for more in ([], ["--weights", weights]):
        with pytest.raises(UserError, match=r"'huge' is unknown.*; nothing is written"):
            swap(RETINANET, "--arch", "huge", *more, "-o", out)
    assert not out.exists()


def test_what_has_no_literal_is_one_line(tmp_path):
    mine, out = tmp_path / "mine.py", tmp_path / "out.py"
    mine.write_text(
        'default_scope = "mmseg"\n'
        'head = dict(type="FCNHead", in_channels=512, in_index=3, w=__import__("numpy").zeros(2))\n'
        'model = dict(backbone=dict(type="ResNet", depth=18), decode_head=[head])\n'
    )
    message = r"model\.decode_head\.0\.w: ndarray has no literal, .*; nothing is written"
    with pytest.raises(UserError, match=message):
        swap(mine, "-o", out, "--no-check")
    assert not out.exists()


def test_a_place_that_can_not_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"File name too long"):
        swap(RETINANET, "-o", tmp_path / f"{'x' * 300}.py", "--no-check")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UserError, match=r"folder\.py: OUT is a folder"):
        swap(RETINANET, "-o", tmp_path / "folder.py", "--force")
    (tmp_path / "file.py").write_text("a = 1\n")
    with pytest.raises(UserError, match=r"out\.py: .*; nothing is written"):
        swap(RETINANET, "-o", tmp_path / "file.py" / "out.py", "--no-check")


def test_what_is_there_is_not_overwritten(tmp_path):
    out, mine = tmp_path / "out.py", tmp_path / "mine.py"
    out.write_text("a = 1\n")
    mine.write_text("a = 1\n")
    with pytest.raises(UserError, match="is there already; --force replaces it"):
        swap(RETINANET, "-o", out)
    with pytest.raises(UserError, match="OUT is CONFIG, from which it is to inherit"):
        swap(mine, "-o", mine, "--force")
    with pytest.raises(UserError, match=r"OUT must end in \.py"):
        swap(RETINANET, "-o", tmp_path / "out.yaml")
    assert out.read_text() == mine.read_text() == "a = 1\n"


def test_a_config_that_is_no_config_is_one_line(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(\n")
    with pytest.raises(UserError, match=r"broken\.py: SyntaxError"):
        swap(broken, "-o", tmp_path / "out.py")
    with pytest.raises(FileNotFoundError, match=r"no\.py does not exist"):
        doctor.main([str(tmp_path / "no.py")])
