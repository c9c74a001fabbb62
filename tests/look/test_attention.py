"""What is shown of attention is what the forward pass computes, and maps divide it exactly."""

import math

import pytest
import torch

from xcit_dense.errors import UserError
from xcit_dense.look.attention import attention_and_maps, attention_of_blocks
from xcit_dense.network import CrossCovarianceAttention, Trunk, resolve_arch

CHANNELS, HEADS = 24, 3
WIDTH = CHANNELS // HEADS


@pytest.fixture(params=["direct", "gram"])
def layer(request):
    layer = CrossCovarianceAttention(CHANNELS, HEADS, form=request.param).double()
    layer.requires_grad_(False)
    layer.qkv.weight.normal_()
    layer.temperature.uniform_(1, 5)
    return layer


@pytest.fixture
def tokens():
    return torch.randn(2, 30, CHANNELS, dtype=torch.float64)


def test_the_output_of_the_layer_follows_from_the_attention(layer, tokens):
    attention, _ = attention_and_maps(layer, tokens)
    value = layer.qkv(tokens)[..., 2 * CHANNELS :].unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)
    mixed = (value @ attention.mT).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer.projection(mixed), layer(tokens))


def test_a_map_divides_the_distance_from_uniform_attention(layer, tokens):
    attention, maps = attention_and_maps(layer, tokens)
    assert maps.shape == (2, HEADS, 30)
    log = attention.log() + math.log(WIDTH)
    there, back = attention * log, -log / WIDTH
    torch.testing.assert_close(maps.sum(-1), (there + back).sum((-2, -1)))
    assert (maps.sum(-1) > 0).all()


def test_uniform_attention_has_an_empty_map(layer, tokens):
    layer.temperature.zero_()
    assert not attention_and_maps(layer, tokens)[1].any()


@pytest.fixture(params=["direct", "gram"])
def trunk(request):
    arch = resolve_arch(dict(embed_dims=32, depth=5, num_heads=4, eta=1.0))
    return Trunk(arch, patch_size=8, attention=request.param).eval().requires_grad_(False)


def test_blocks_are_seen_with_the_tokens_of_the_forward_pass(trunk):
    image, seen = torch.randn(1, 3, 64, 88), {}
    trunk.blocks[3].register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))
    before = trunk(image)
    (shown,) = attention_of_blocks(trunk, image, [3])
    block = trunk.blocks[3]
    attention, maps = attention_and_maps(block.attention, block.attention_norm(seen["tokens"]))
    assert torch.equal(shown.attention, attention[0])
    assert torch.equal(shown.maps.flatten(1), maps[0])
    assert all(map(torch.equal, trunk(image), before))  # looking changes nothing


@pytest.mark.parametrize("size", [(64, 88), (61, 9), (1, 1)])
def test_shapes_for_any_image_size(trunk, size):
    shown = attention_of_blocks(trunk, torch.randn(1, 3, *size), [4, 0, 4])
    assert [block.block for block in shown] == [4, 0, 4]
    for block in shown:
        assert block.attention.shape == (4, 8, 8)
        assert block.maps.shape == (4, -(-size[0] // 8), -(-size[1] // 8))


def test_unknown_blocks_are_named(trunk):
    with pytest.raises(UserError, match=r"no block 5.* 0 to 4"):
        attention_of_blocks(trunk, torch.randn(1, 3, 8, 8), [0, 5])
