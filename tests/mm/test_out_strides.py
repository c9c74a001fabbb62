"""The backbone gives the levels that are asked for, and has weights for no others."""

import pytest
import torch

import xcit_dense

SMALL = {"embed_dims": 32, "depth": 6, "num_heads": 4, "eta": 1.0}  # taps after blocks 1, 2, 3, 5
CHOICES = [(8, 16, 32), (16,), (32,), (4, 32), (8, 8), (4, 8, 8, 8), (16, 16, 16, 16), (4, 4, 32)]


def build(out_strides, **kwargs):
    return xcit_dense.XCiT(arch=SMALL, out_strides=out_strides, **kwargs)


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("out_strides", CHOICES, ids=str)
def test_levels_have_the_strides_and_every_weight_a_gradient(out_strides, patch_size):
    model = build(out_strides, patch_size=patch_size)
    assert model.strides == out_strides
    assert model.out_channels == (32,) * len(out_strides)
    levels = model(torch.randn(2, 3, 50, 70))
    for level, stride in zip(levels, out_strides, strict=True):
        assert level.shape == (2, 32, -(-50 // stride), -(-70 // stride))
    sum(level.square().mean() for level in levels).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("out_strides", CHOICES, ids=str)
def test_weights_are_named_as_in_the_whole_pyramid(out_strides):
    """A checkpoint of the whole pyramid fits; only what repeats a stride is new."""
    whole = xcit_dense.XCiT(arch=SMALL)
    model = build(out_strides)
    missing, _ = model.load_state_dict(whole.state_dict(), strict=False)
    assert all("_repeat" in name for name in missing)
    assert bool(missing) == any(out_strides.count(stride) > 1 for stride in (4, 8))


def test_fewer_levels_tap_the_last_blocks_and_equal_those_of_the_whole_pyramid():
    whole, some = xcit_dense.XCiT(arch=SMALL).eval(), build((8, 16, 32)).eval()
    assert some.trunk.out_indices == (2, 3, 5)
    some.load_state_dict(whole.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 96)
    for wanted, level in zip(whole(image)[1:], some(image), strict=True):
        assert torch.equal(wanted, level)


def test_stages_are_frozen_up_to_the_tap_of_a_level():
    model = build((8, 32), frozen_stages=1)
    assert [block.ffn.fc1.weight.requires_grad for block in model.trunk.blocks] == [
        index > 3 for index in range(6)
    ]


@pytest.mark.parametrize("patch_size", [8, 16])
def test_maps_can_be_had_in_the_plain_memory_format(patch_size):
    model = build((4, 8, 16, 32), patch_size=patch_size).eval()
    image = torch.randn(2, 3, 64, 96)
    channels_last = model(image)
    model.contiguous_outputs = True
    for wanted, level in zip(channels_last, model(image), strict=True):
        assert torch.equal(wanted, level)
        assert level.is_contiguous()
    assert not any(level.is_contiguous() for level in channels_last)


@torch.no_grad()
def test_it_can_be_optimized_for_inference():
    model = build((4, 8, 8)).eval()
    image = torch.randn(1, 3, 64, 96)
    before = model(image)
    after = xcit_dense.optimize_for_inference(model)(image)
    for wanted, level in zip(before, after, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"out_strides": ()}, r"out_strides=\(\): must be 1 to 4 levels"),
        ({"out_strides": (4, 8, 16, 32, 32)}, "must be 1 to 4 levels"),
        ({"out_strides": (8, 64)}, r"\(8, 64\): each must be one of \(4, 8, 16, 32\)"),
        ({"out_strides": (16, 8)}, "must go from fine to coarse"),
        ({"out_strides": (8, 16), "out_indices": (1, 2, 5)}, "needs exactly 2, one a level"),
        ({"out_strides": (8, 16), "frozen_stages": 3}, "0 .stem. or 1 to 2"),
    ],
)
def test_errors_name_the_value_and_what_is_allowed(kwargs, message):
    with pytest.raises(ValueError, match=message):
        xcit_dense.XCiT(arch=SMALL, **kwargs)
