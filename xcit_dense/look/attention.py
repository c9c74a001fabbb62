"""Where in an image cross-covariance attention comes from.

The attention of a head is d x d, channels by channels, and has no places. But its logit for the
query channel i and the key channel j is a sum over the N places,

    logit_ij = temperature * sum_n q_ni k_nj,    q and k of unit norm over the places,

so place n contributes temperature * q_ni k_nj to it, exactly. A map shows, for every place, the sum
of its contributions to all d x d logits, each weighted by how far attention at that entry exceeds
attending to all channels alike:

    map_n = temperature * sum_ij (A_ij - 1/d) q_ni k_nj.

The places of a map sum to sum_i KL(A_i || U) + KL(U || A_i), with U the uniform distribution. So a
map divides among the places how far attention is from attending to all channels alike, and a head
that does so has an empty map.

This is a definition of this project. What the XCiT paper shows (its figure of attention maps) is
class attention, which only the classification models have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.errors import UserError
from xcit_dense.network import Block, CrossCovarianceAttention, Trunk


def attention_and_maps(layer: CrossCovarianceAttention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Compute attention as the formula says, and the map of each head that the text above defines.

    Args:
        layer: of a block.
        tokens: (B, N, C), after the norm.

    Returns:
        Attention (B, heads, d, d), queries' channels by keys' channels, whose rows sum to one; and
        maps (B, heads, N).
    """
    qkv = layer.qkv(tokens).unflatten(-1, (3, layer.num_heads, -1))
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
    query, key = F.normalize(query, dim=-2), F.normalize(key, dim=-2)
    attention = (query.mT @ key * layer.temperature).softmax(dim=-1)
    excess = attention - 1 / attention.shape[-1]
    maps = (query @ excess * key).sum(dim=-1) * layer.temperature[..., 0]
    return attention, maps


@dataclass(frozen=True)
class BlockAttention:
    """The attention of a block for one image.

    Attributes:
        block: number of the block, counted from 0.
        attention: (heads, d, d), queries' channels by keys' channels; rows sum to one.
        maps: (heads, rows, columns) of the grid of patches.
    """

    block: int
    attention: Tensor
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
        UserError: there is no such block.
    """
    for number in blocks:
        if not 0 <= number < len(trunk.blocks):
            last = len(trunk.blocks) - 1
            raise UserError(f"there is no block {number}: they are counted from 0 to {last}")
    found: dict[Block, BlockAttention] = {}

    def look(block: Block, inputs: tuple[Tensor, int, int]) -> None:
        tokens, height, width = inputs
        attention, maps = attention_and_maps(block.attention, block.attention_norm(tokens))
        number = [*trunk.blocks].index(block)
        maps = maps[0].unflatten(-1, (height, width))
        found[block] = BlockAttention(number, attention[0], maps)

    wanted = [trunk.blocks[number] for number in blocks]
    handles = [block.register_forward_pre_hook(look) for block in set(wanted)]
    try:
        trunk(image)
    finally:
        for handle in handles:
            handle.remove()
    return [found[block] for block in wanted]
