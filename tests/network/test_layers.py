"""Laws of the layers."""

import copy
import math

import pytest
import torch
from torch import nn

from xcit_dense.network import (
    Block,
    ConvolutionalPatchEmbedding,
    FourierPositionEncoding,
    LocalPatchInteraction,
    Trunk,
    fourier_position_codes,
    resolve_arch,
)


def test_local_patch_interaction_reaches_two_places_and_no_further():
    lpi = LocalPatchInteraction(4).eval()
    tokens = torch.randn(1, 81, 4, requires_grad=True)
    lpi(tokens, 9, 9)[0, 4 * 9 + 4].sum().backward()
    reached = tokens.grad[0].abs().sum(-1).reshape(9, 9) > 0
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[2:7, 2:7] = True
    assert torch.equal(reached, expected)


def test_local_patch_interaction_keeps_channels_apart():
    lpi = LocalPatchInteraction(4).eval()
    tokens = torch.randn(1, 25, 4, requires_grad=True)
    lpi(tokens, 5, 5)[..., 2].sum().backward()
    assert tokens.grad[..., 2].any()
    assert not tokens.grad[..., [0, 1, 3]].any()


@pytest.mark.parametrize(("patch_size", "convs"), [(8, 3), (16, 4)])
def test_patch_embedding_divides_by_the_patch_size(patch_size, convs):
    stem = ConvolutionalPatchEmbedding(patch_size, 5, 64)
    assert stem(torch.randn(2, 5, 4 * patch_size, 7 * patch_size)).shape == (2, 64, 4, 7)
    assert sum(isinstance(m, nn.Conv2d) for m in stem.modules()) == convs
    assert sum(isinstance(m, nn.GELU) for m in stem.modules()) == convs - 1


@pytest.mark.parametrize("length", [1, 5, 84])
def test_equals_the_formula(length):
    codes = fourier_position_codes(length, num_frequencies=8).double()
    assert codes.shape == (length, 8)
    for feature in range(8):
        frequency = 10000 ** (-2 * (feature // 2) / 8)
        wave = math.sin if feature % 2 == 0 else math.cos
        for place in range(length):
            expected = wave((place + 1) / (length + 1e-6) * 2 * math.pi * frequency)
            assert abs(codes[place, feature].item() - expected) < 1e-5


def test_the_encoding_of_a_place_is_the_projection_of_its_row_and_its_column():
    encoding, place = FourierPositionEncoding(48), (3, 11)
    codes = [fourier_position_codes(n)[i] for n, i in zip((5, 13), place, strict=True)]
    weight, bias = encoding.projection.weight[:, :, 0, 0], encoding.projection.bias
    torch.testing.assert_close(
        encoding(5, 13)[(0, slice(None), *place)], weight @ torch.cat(codes) + bias
    )


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 31), (32, 15)])
@torch.no_grad()
def test_an_image_is_padded_with_zeros_at_the_bottom_and_the_right(size):
    trunk = Trunk(resolve_arch(dict(embed_dims=16, depth=4, num_heads=2, eta=1.0))).eval()
    image = torch.randn(1, 3, *size)
    padded = torch.zeros(1, 3, *(-(-side // 16) * 16 for side in size))
    padded[..., : size[0], : size[1]] = image
    for found, expected in zip(trunk(image), trunk(padded), strict=True):
        assert torch.equal(found, expected)


def test_layer_scale_of_zero_makes_the_block_the_identity():
    block = Block(16, 2, eta=0.0)
    tokens = torch.randn(2, 30, 16)
    assert torch.equal(block(tokens, 5, 6), tokens)


@pytest.mark.parametrize("form", ["gram", "direct"])
@pytest.mark.parametrize("keep_less", [True, False])
def test_every_parameter_of_a_block_receives_a_gradient(form, keep_less):
    block = Block(16, 2, attention=form, keep_less=keep_less)
    block(torch.randn(2, 30, 16), 5, 6).square().sum().backward()
    without = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("with_grad", [True, False])
def test_drop_path_skips_branches_of_whole_samples(with_grad):
    block = Block(16, 2, drop_path_rate=0.9)
    tokens = torch.randn(64, 30, 16)
    with torch.set_grad_enabled(with_grad):
        changed = (block(tokens, 5, 6) != tokens).flatten(1).any(1)
        assert 0 < changed.sum() < 40  # a sample is left alone with probability 0.9 ** 3
        assert (block.eval()(tokens, 5, 6) != tokens).flatten(1).any(1).all()


@pytest.mark.parametrize("form", ["direct", "gram"])
@pytest.mark.parametrize("keep_less", [True, False])
def test_float16_gradients_survive_a_small_layer_scale(form, keep_less):
    """A weight times 1e-5 has few digits left in float16; its output does not."""
    block = Block(64, 4, eta=1e-5, attention=form, keep_less=keep_less).eval()
    tokens = torch.randn(2, 64, 64).half().float()
    grad = torch.randn(2, 64, 64)
    exact = copy.deepcopy(block).double()
    (exact(tokens.double(), 8, 8) * grad.double()).sum().backward()
    with torch.autocast("cpu", torch.float16):
        out = block(tokens, 8, 8)
    ((out * grad).sum() * 2.0**16).backward()
    for (name, parameter), want in zip(block.named_parameters(), exact.parameters(), strict=True):
        error = (parameter.grad / 2.0**16 - want.grad).abs().max() / want.grad.abs().max()
        assert error < 1e-2, (name, error.item())
