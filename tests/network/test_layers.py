"""Laws of the layers."""

import pytest
import torch
from torch import nn

from xcit_dense.network import (
    Block,
    ConvolutionalPatchEmbedding,
    FourierPositionEncoding,
    LocalPatchInteraction,
    Trunk,
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


def test_position_encoding_has_any_size():
    encoding = FourierPositionEncoding(48)
    assert encoding(1, 1).shape == (1, 48, 1, 1)
    assert encoding(13, 40).shape == (1, 48, 13, 40)


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
