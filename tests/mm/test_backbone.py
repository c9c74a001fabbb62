"""The registered backbone keeps its public promises."""

import mmengine.registry
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import xcit_dense
from xcit_dense.engine import pays

SMALL = {"embed_dims": 32, "depth": 6, "num_heads": 4, "eta": 1.0}  # taps after blocks 1, 2, 3, 5
STRIDES = (4, 8, 16, 32)
CHOICES = [(16,), (4, 32), (8, 16, 32), (4, 8, 8, 8), (16, 16, 16, 16), (4, 4, 32)]


def build(**kwargs):
    return mmengine.registry.MODELS.build({"type": "XCiT", "arch": SMALL, **kwargs})


def loss(levels):
    return sum(level.square().mean() for level in levels)


@pytest.mark.parametrize("registry", [mmengine.registry.MODELS, MMDET_MODELS, MMSEG_MODELS])
def test_the_registries_know_it(registry):
    model = registry.build({"type": "XCiT", "arch": "nano_12", "patch_size": 16})
    assert isinstance(model, xcit_dense.XCiT)
    assert (model.out_channels, model.strides) == ((128,) * 4, STRIDES)


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (224, 224), (800, 1333)])
@torch.no_grad()
def test_any_image_size_gives_a_pyramid(patch_size, size):
    model = build(patch_size=patch_size).eval()
    levels = model(torch.randn(1, 3, *size))
    for level, stride in zip(levels, STRIDES, strict=True):
        assert level.shape == (1, 32, -(-size[0] // stride), -(-size[1] // stride))
        assert level.isfinite().all()


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("out_strides", [STRIDES, *CHOICES], ids=str)
def test_levels_have_the_strides_and_every_weight_a_gradient(out_strides, patch_size):
    model = build(out_strides=out_strides, patch_size=patch_size)
    assert (model.out_channels, model.strides) == ((32,) * len(out_strides), out_strides)
    levels = model(torch.randn(2, 3, 50, 70))
    for level, stride in zip(levels, out_strides, strict=True):
        assert level.shape == (2, 32, -(-50 // stride), -(-70 // stride))
    loss(levels).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("out_strides", CHOICES, ids=str)
def test_weights_are_named_as_in_the_whole_pyramid(out_strides):
    """A checkpoint of the whole pyramid fits; only what repeats a stride is new."""
    missing, _ = build(out_strides=out_strides).load_state_dict(build().state_dict(), strict=False)
    assert all("_repeat" in name for name in missing)
    assert bool(missing) == any(out_strides.count(stride) > 1 for stride in (4, 8))


def test_fewer_levels_tap_the_last_blocks_and_equal_those_of_the_whole_pyramid():
    whole, some = build().eval(), build(out_strides=(8, 16, 32)).eval()
    assert some.trunk.out_indices == (2, 3, 5)
    some.load_state_dict(whole.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 96)
    for wanted, level in zip(whole(image)[1:], some(image), strict=True):
        assert torch.equal(wanted, level)


def test_maps_can_be_had_in_the_plain_memory_format():
    model = build().eval()
    image = torch.randn(2, 3, 64, 96)
    channels_last = model(image)
    model.contiguous_outputs = True
    for wanted, level in zip(channels_last, model(image), strict=True):
        assert torch.equal(wanted, level)
        assert level.is_contiguous()
    assert not any(level.is_contiguous() for level in channels_last)


@torch.no_grad()
def test_outputs_do_not_depend_on_the_rest_of_the_batch():
    model = build().eval()
    image, other = torch.randn(2, 1, 3, 64, 96)
    together = model(torch.cat([other * 100, image]))
    for one, both in zip(model(image), together, strict=True):
        torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_form_of_attention_is_a_matter_of_time_only():
    assert pays((480 // 8) ** 2, 32)  # so auto takes the engine
    direct, auto = (build(patch_size=8, attention=form).eval() for form in ("direct", "auto"))
    auto.load_state_dict(direct.state_dict())
    image = torch.randn(1, 3, 480, 480)
    for wanted, level in zip(direct(image), auto(image), strict=True):
        assert (wanted - level).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(
    ("norm_cfg", "norm_type"),
    [
        ({"type": "BN", "requires_grad": False}, nn.BatchNorm2d),
        ({"type": "SyncBN"}, nn.SyncBatchNorm),
        ({"type": "GN", "num_groups": 2}, nn.GroupNorm),
    ],
)
def test_norm_cfg_reaches_every_norm_of_a_map(norm_cfg, norm_type):
    model = build(norm_cfg=norm_cfg)
    norms = [m for m in model.modules() if isinstance(m, _NormBase | nn.GroupNorm)]
    assert len(norms) == 4 + 6 + 1  # stem, one a block, pyramid
    assert all(isinstance(norm, norm_type) for norm in norms)
    assert {norm.weight.requires_grad for norm in norms} == {norm_cfg.get("requires_grad", True)}


@pytest.mark.parametrize(
    ("out_strides", "stages", "blocks"),
    [(STRIDES, stages, blocks) for stages, blocks in [(-1, 0), (0, 0), (1, 2), (2, 3), (4, 6)]]
    + [((8, 32), 1, 4)],
)
def test_frozen_stages_keep_weights_and_statistics(out_strides, stages, blocks):
    model = build(out_strides=out_strides, frozen_stages=stages)
    model.train()
    frozen = [model.trunk.patch_embedding, model.trunk.position_encoding] if stages >= 0 else []
    frozen = nn.ModuleList([*frozen, *model.trunk.blocks[:blocks]])
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss(model(torch.randn(2, 3, 64, 64))).backward()
    parameters, buffers = set(frozen.parameters()), set(frozen.buffers())
    for parameter in model.parameters():
        assert (parameter.grad is None) == (parameter in parameters)
    for name, buffer in model.named_buffers():
        if "running" in name:
            assert torch.equal(buffer, before[name]) == (buffer in buffers), name


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"arch": "huge"}, "'huge' is unknown; known: nano_12, tiny_12, tiny_24, small_12"),
        ({"patch_size": 4}, r"patch_size=4: must be one of \(8, 16\)"),
        ({"arch": {**SMALL, "num_heads": 5}}, "32 is not divisible by num_heads=5"),
        ({"out_indices": (1, 2, 3)}, "needs exactly 4"),
        ({"frozen_stages": 5}, "frozen_stages=5: must be -1"),
        ({"drop_path_rate": 1.5}, r"drop_path_rate=1.5: must be in \[0, 1\)"),
        ({"attention": "fast"}, "attention='fast': must be one of auto, gram, direct"),
        ({"out_strides": ()}, r"out_strides=\(\): must be 1 to 4 levels"),
        ({"out_strides": (8, 64)}, r"\(8, 64\): each must be one of \(4, 8, 16, 32\)"),
        ({"out_strides": (16, 8)}, "must go from fine to coarse"),
        ({"out_strides": (8, 16), "frozen_stages": 3}, "1 to 2"),
    ],
)
def test_errors_name_the_value_and_what_is_allowed(kwargs, message):
    with pytest.raises(ValueError, match=message):
        xcit_dense.XCiT(**{"arch": SMALL, **kwargs})


@pytest.mark.parametrize("shape", [(1, 4, 32, 32), (3, 32, 32)])
def test_an_image_of_other_channels_is_an_error(shape):
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\).*in_channels="):
        build()(torch.randn(*shape))
