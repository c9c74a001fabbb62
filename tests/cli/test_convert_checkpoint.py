"""``tools/convert_checkpoint.py``: lossless both ways, careful with files, short errors."""

import pytest
import timm
import torch
from safetensors.torch import load_file

from xcit_dense.cli.convert import main
from xcit_dense.errors import UserError
from xcit_dense.weights import NAMINGS, rename_state_dict


@pytest.fixture(scope="module")
def tensors():
    """By the release's names."""
    return rename_state_dict(timm.create_model("xcit_nano_12_p16_224").state_dict(), "official")


@pytest.fixture
def source(tensors, tmp_path):
    torch.save({"model": tensors}, tmp_path / "source.pth")
    return tmp_path / "source.pth"


def convert(source, target, to, *options):
    main([str(source), str(target), "--to", to, *options])
    return target


def read(path):
    return torch.load(path, weights_only=True)


def assert_same(first, second):
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("between", NAMINGS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_there_and_back_is_the_same_file(between, suffix, source, tensors, tmp_path):
    middle = convert(source, tmp_path / f"middle{suffix}", between)
    if suffix == ".safetensors":  # which have an order of their own
        assert load_file(middle).keys() == rename_state_dict(tensors, between).keys()
    back = read(convert(middle, tmp_path / "back.pth", "official"))
    assert list(back) == ["model"]
    assert back["model"].keys() == tensors.keys()
    assert all(torch.equal(back["model"][key], tensors[key]) for key in tensors)
    assert suffix == ".safetensors" or list(back["model"]) == list(tensors)


@pytest.mark.parametrize("between", ["xcit_dense", "timm"])
def test_a_detector_keeps_its_neck_and_heads(between, tensors, tmp_path):
    whole = {f"backbone.{key}": tensor for key, tensor in tensors.items() if "cls" not in key}
    whole |= {"backbone.fpn1.0.bias": torch.ones(128), "neck.x": torch.ones(2)}
    meta = {"epoch": 36, "CLASSES": ["person"]}
    torch.save(
        {"meta": meta, "state_dict": whole, "optimizer": {"state": {}}}, tmp_path / "source.pth"
    )
    middle = convert(tmp_path / "source.pth", tmp_path / "middle.pth", between)
    back = read(convert(middle, tmp_path / "back.pth", "official"))
    assert_same(back["state_dict"], whole)
    # the bare tensors that timm reads have no place for it
    assert back["meta"] == (meta if between == "xcit_dense" else {})


def test_timms_naming_is_read_by_timm(source, tmp_path):
    path = convert(source, tmp_path / "timm.pth", "timm")
    model = timm.create_model("xcit_nano_12_p16_224", checkpoint_path=str(path))
    assert_same(model.state_dict(), read(path))


def test_what_is_read_and_written_is_said(source, tensors, tmp_path, capsys):
    torch.save({"model": {**tensors, "extra.x": torch.ones(1)}, "epoch": 3}, source)
    target = convert(source, tmp_path / "ours.pth", "xcit_dense")
    read_line, written_line = capsys.readouterr().out.splitlines()[-2:]
    assert read_line == f"{source}: nano_12/16, 384 tensors"
    assert written_line == f"{target}: 384 tensors, named as by xcit_dense"


def test_nothing_is_overwritten_that_was_not_meant(source, tmp_path):
    before = source.read_bytes()
    with pytest.raises(UserError, match="DST is SRC"):
        convert(source, source.parent / "." / source.name, "timm", "--force")
    assert source.read_bytes() == before
    there = tmp_path / "there.pth"
    there.write_text("precious")
    with pytest.raises(UserError, match=r"there\.pth.*--force"):
        convert(source, there, "timm")
    assert there.read_text() == "precious"
    assert "cls_token" in read(convert(source, there, "timm", "--force"))
    with pytest.raises(UserError, match="is there already"):
        convert(source, tmp_path, "timm", "--force")


def test_what_is_no_xcit_is_an_error_and_writes_nothing(tmp_path):
    torch.save({"state_dict": {"layer1.weight": torch.ones(1)}}, tmp_path / "resnet.pth")
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    for name, message in (("resnet", r"no XCiT.*layer1\.weight"), ("broken", r"broken\.pth")):
        with pytest.raises(UserError, match=message):
            convert(tmp_path / f"{name}.pth", tmp_path / "out.pth", "timm")
        assert not (tmp_path / "out.pth").exists()
