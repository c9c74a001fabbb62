"""What is shown of a block's attention is what the block has computed."""

import pytest
import torch

from xcit_dense.look.attention_maps import channel_attention
from xcit_dense.look.attention_of_blocks import attention_of_blocks
from xcit_dense.network import Trunk, resolve_arch

ARCH = resolve_arch(dict(embed_dims=32, depth=5, num_heads=4, eta=1.0))


@pytest.fixture(params=["direct", "gram"])
def trunk(request):
    trunk = Trunk(ARCH, patch_size=8, attention=request.param).eval()
    with torch.no_grad():
        for block in trunk.blocks:
            block.attention.temperature.uniform_(1, 5)
            block.attention.qkv.weight.normal_(0, 0.2)
    return trunk


@torch.no_grad()
def test_the_attention_gives_the_output_of_the_branch(trunk):
    """The output of the block's own attention follows from the shown one."""
    image, index = torch.randn(1, 3, 64, 88), 3
    block = trunk.blocks[index]
    seen = {}
    block.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0].clone()))
    block.attention.register_forward_hook(lambda _, __, out: seen.update(output=out.clone()))
    (shown,) = attention_of_blocks(trunk, image, [index])

    layer = block.attention
    normed = block.attention_norm(seen["tokens"])
    value = channel_attention(normed, layer.qkv.weight, layer.qkv.bias, layer.temperature).value
    mixed = (value @ shown.attention[None].mT).transpose(1, 2).flatten(2)
    assert torch.allclose(seen["output"], layer.projection(mixed), atol=1e-5)


def test_looking_changes_nothing(trunk):
    image = torch.randn(1, 3, 64, 88)
    with torch.no_grad():
        before = trunk(image)
        attention_of_blocks(trunk, image, [0, 2, 4])
        after = trunk(image)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(block._forward_pre_hooks for block in trunk.blocks)


@pytest.mark.parametrize("size", [(64, 88), (61, 9), (1, 1)])
def test_shapes_for_any_image_size(trunk, size):
    shown = attention_of_blocks(trunk, torch.randn(1, 3, *size), [4, 0])
    assert [block.block for block in shown] == [4, 0]
    for block in shown:
        assert block.attention.shape == (4, 8, 8)
        assert torch.allclose(block.attention.sum(-1), torch.ones(4, 8))
        assert block.temperature.shape == (4,)
        assert block.maps.shape == (4, -(-size[0] // 8), -(-size[1] // 8))


def test_unknown_blocks_are_named(trunk):
    with pytest.raises(ValueError, match=r"no block 5: they are counted 0 to 4"):
        attention_of_blocks(trunk, torch.randn(1, 3, 8, 8), [0, 5])


def test_one_image_at_a_time(trunk):
    with pytest.raises(ValueError, match="2 images: expected one"):
        attention_of_blocks(trunk, torch.randn(2, 3, 8, 8), [0])
