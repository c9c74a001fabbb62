"""Every published format fills a backbone, by ``init_cfg`` and by ``load_from``."""

import pytest
import timm
import torch
from mmengine.registry import MODELS
from safetensors.torch import save_file

IMAGE = torch.linspace(-2, 2, 3 * 64 * 96).view(1, 3, 64, 96)


def timm_taps(model, image):
    """The maps of timm's model after the blocks that the pyramid taps."""
    tokens, (height, width) = model.patch_embed(image)
    tokens = tokens + model.pos_embed(1, height, width).flatten(2).transpose(1, 2)
    taps = []
    for index, block in enumerate(model.blocks):
        tokens = block(tokens, height, width)
        if index in (3, 5, 7, 11):
            taps.append(tokens.transpose(1, 2).reshape(1, -1, height, width))
    return taps


def as_official(tensors, official, folder):
    return save({"model": official(tensors)}, folder)


def as_official_of_dino(tensors, official, folder):
    """The self-supervised backbones come bare and without a classifier."""
    return save({k: t for k, t in official(tensors).items() if "head" not in k}, folder)


def as_timm(tensors, official, folder):
    return save(tensors, folder)


def as_wrapped(tensors, official, folder):
    """As a model that was trained in several processes writes itself."""
    return save({"model": {f"module.{k}": t for k, t in official(tensors).items()}}, folder)


def as_safetensors(tensors, official, folder):
    save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


def as_mm(tensors, official, folder):
    """As mm's heads and tools write, with names of the release."""
    backbone = {f"backbone.{k}": t for k, t in official(tensors).items() if "cls" not in k}
    head = {"head.weight": torch.ones(2, 4), "head.bias": torch.ones(2)}
    return save({"state_dict": {**backbone, **head}, "meta": {"epoch": 36}}, folder)


def as_mm_wrapped(tensors, official, folder):
    backbone = {f"module.backbone.{k}": t for k, t in tensors.items()}
    return save({"state_dict": backbone, "meta": {}}, folder)


FORMATS = [
    as_official,
    as_official_of_dino,
    as_timm,
    as_wrapped,
    as_safetensors,
    as_mm,
    as_mm_wrapped,
]


def save(checkpoint, folder):
    torch.save(checkpoint, folder / "published.pth")
    return folder / "published.pth"


def from_init_cfg(path):
    backbone = MODELS.build(
        {
            "type": "XCiT",
            "arch": "nano_12",
            "patch_size": 16,
            "init_cfg": {"type": "Pretrained", "checkpoint": str(path)},
        }
    )
    backbone.init_weights()
    return backbone


@torch.no_grad()
def assert_equal_outputs(backbone, model):
    for tap, want in zip(backbone.eval().trunk(IMAGE), timm_taps(model, IMAGE), strict=True):
        assert (tap - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("way", ["init_cfg", "load_from"])
@pytest.mark.parametrize("write", FORMATS)
def test_the_outputs_are_timms(
    write, way, timm_nano, official, tmp_path, toy_detector, load_from, log
):
    path = write(timm_nano.state_dict(), official, tmp_path)
    if way == "init_cfg":
        backbone = from_init_cfg(path)
    else:
        backbone = load_from(toy_detector(), path).backbone
    assert_equal_outputs(backbone, timm_nano)
    assert len(log) == 1
    part = "trunk" if way == "init_cfg" else "backbone"
    assert f"{part} 3" in log[0]
    assert "pyramid.* (" in log[0]
    assert "not in the model" not in log[0]


def test_init_cfg_says_what_it_took(timm_nano, official, tmp_path, log):
    path = as_official(timm_nano.state_dict(), official, tmp_path)
    from_init_cfg(path)
    assert log == [
        f"{path}: 350 of 360 tensors loaded (trunk 350/350, pyramid 0/10)\n"
        "  not in the checkpoint: pyramid.* (10)\n"
        "  left out on purpose: 31 of class attention, 2 of classifier"
    ]


@pytest.mark.parametrize("way", ["init_cfg", "load_from"])
def test_names_of_timm_as_addresses(way, timm_nano, official, monkeypatch, toy_detector, load_from):
    """Timm fetches the release's file and fits it to its own model; only the fetching is faked."""
    asked = []

    def fetch(model_id, **_):
        asked.append(model_id)
        return official(timm_nano.state_dict())

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", fetch)
    name = "timm://xcit_nano_12_p16_384.fb_dist_in1k"
    backbone = (
        from_init_cfg(name) if way == "init_cfg" else load_from(toy_detector(), name).backbone
    )
    assert asked == ["timm/xcit_nano_12_p16_384.fb_dist_in1k"]
    assert_equal_outputs(backbone, timm_nano)


def test_a_prefix_of_ones_own(timm_nano, tmp_path, log):
    tensors = {f"teacher.encoder.{k}": t for k, t in timm_nano.state_dict().items()}
    path = save({"state_dict": {**tensors, "student.x": torch.ones(1)}}, tmp_path)
    backbone = MODELS.build(
        {
            "type": "XCiT",
            "arch": "nano_12",
            "patch_size": 16,
            "init_cfg": {
                "type": "Pretrained",
                "checkpoint": str(path),
                "prefix": "teacher.encoder",
            },
        }
    )
    backbone.init_weights()
    assert_equal_outputs(backbone, timm_nano)
    assert "1 of the rest of the model" in log[0]


@pytest.mark.parametrize("way", ["init_cfg", "load_from"])
@pytest.mark.parametrize("in_channels", [1, 2, 4, 6])
@torch.no_grad()
def test_other_image_channels(in_channels, way, timm_nano, tmp_path, toy_detector, load_from, log):
    path = as_timm(timm_nano.state_dict(), None, tmp_path)
    if way == "init_cfg":
        init_cfg = {"type": "Pretrained", "checkpoint": str(path)}
        backbone = toy_detector(in_channels=in_channels, init_cfg=init_cfg).backbone
        backbone.init_weights()
    else:
        backbone = load_from(toy_detector(in_channels=in_channels), path).backbone
    gray = IMAGE[:, :1]
    taps = backbone.eval().trunk(gray.expand(-1, in_channels, -1, -1))
    for tap, want in zip(taps, timm_taps(timm_nano, gray.expand(-1, 3, -1, -1)), strict=True):
        assert (tap - want).abs().max() <= 1e-4 * want.abs().max()
    assert f"first convolution adapted from 3 to {in_channels} image channels" in log[-1]


@torch.no_grad()
def test_fewer_image_channels_than_the_file(tmp_path, toy_detector, load_from):
    many, few = toy_detector(in_channels=6).eval(), toy_detector(in_channels=3)
    path = save({"state_dict": many.state_dict(), "meta": {}}, tmp_path)
    few = load_from(few, path).eval()
    gray = IMAGE[:, :1]
    for level, want in zip(
        few(gray.expand(-1, 3, -1, -1)), many(gray.expand(-1, 6, -1, -1)), strict=True
    ):
        assert (level - want).abs().max() <= 1e-4 * want.abs().max()
