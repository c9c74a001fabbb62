"""Looking into the cross-covariance attention of a trunk while it sees an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xcit_dense.look.attention_maps import channel_attention, driving_places
from xcit_dense.network import Block
from xcit_dense.network.trunk import Trunk


@dataclass(frozen=True)
class BlockAttention:
    """The attention of a block for one image.

    Attributes:
        block: number of the block, counted from 0.
        attention: (heads, d, d), queries' channels by keys' channels; rows sum to one.
        temperature: (heads,), scale of the logits.
        maps: (heads, rows, columns) of the grid of patches, what drives attention where, as
            :mod:`xcit_dense.look.attention_maps` defines it.
    """

    block: int
    attention: Tensor
    temperature: Tensor
    maps: Tensor


@torch.no_grad()
def attention_of_blocks(trunk: Trunk, image: Tensor, blocks: Sequence[int]) -> list[BlockAttention]:
    """Run a trunk on an image and look at the attention of some of its blocks.

    The attention is computed from the very tokens that enter the block in the forward pass.

    Args:
        trunk: in eval mode, else norms and dropout act as in training.
        image: (1, in_channels, H, W), any H and W, prepared as for the model.
        blocks: numbers of blocks, counted from 0.

    Raises:
        ValueError: there is no such block, or not exactly one image.
    """
    if len(image) != 1:
        raise ValueError(f"{len(image)} images: expected one at a time")
    unknown = [index for index in blocks if not 0 <= index < len(trunk.blocks)]
    if unknown:
        raise ValueError(f"no block {unknown[0]}: they are counted 0 to {len(trunk.blocks) - 1}")
    found: dict[int, BlockAttention] = {}

    def look(index: int, block: Block, inputs: tuple[Tensor, int, int]) -> None:
        found[index] = _attention_of(index, block, *inputs[:3])

    handles = [
        trunk.blocks[index].register_forward_pre_hook(
            lambda block, inputs, index=index: look(index, block, inputs)
        )
        for index in set(blocks)
    ]
    try:
        trunk(image)
    finally:
        for handle in handles:
            handle.remove()
    return [found[index] for index in blocks]


def _attention_of(
    index: int, block: Block, tokens: Tensor, height: int, width: int
) -> BlockAttention:
    layer = block.attention
    attention = channel_attention(
        block.attention_norm(tokens), layer.qkv.weight, layer.qkv.bias, layer.temperature
    )
    maps = driving_places(attention, layer.temperature)
    return BlockAttention(
        index,
        attention.attention[0],
        layer.temperature.flatten(),
        maps[0].unflatten(-1, (height, width)),
    )
