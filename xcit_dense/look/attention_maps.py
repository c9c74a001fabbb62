"""Where in an image cross-covariance attention comes from: its logits, place by place.

The attention of a head is d x d, channels by channels, and has no places. But its logit for the
query channel i and the key channel j is a sum over the N places,

    logit_ij = temperature * sum_n q_ni k_nj,    q and k of unit norm over the places,

so place n contributes temperature * q_ni k_nj to it, exactly. A map shows, for every place, the sum
of its contributions to all d x d logits, each weighted by how far attention at that entry exceeds
attending to all channels alike:

    map_n = temperature * sum_ij (A_ij - 1/d) q_ni k_nj.

Adding the same number to all logits of a row changes neither attention nor the map. The places of
a map sum to sum_i KL(A_i || U) + KL(U || A_i), with U the uniform distribution: to how far
attention is from attending to all channels alike. So a map divides this distance among the places:
positive places drive attention to what it picks, negative ones hold it back, and a head that
attends to all channels alike has an empty map.

This is a definition of this project. What the XCiT paper shows (its figure of attention maps) is
class attention, which only the classification models have: see
:mod:`xcit_dense.look.class_attention`.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class ChannelAttention(NamedTuple):
    """The attention of each head, and what it was made of.

    Attributes:
        query: (B, heads, N, d), each channel of unit norm over the places.
        key: (B, heads, N, d), likewise.
        value: (B, heads, N, d).
        logits: (B, heads, d, d), queries' channels by keys' channels, times temperature.
        attention: (B, heads, d, d), rows sum to one.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    logits: Tensor
    attention: Tensor


def channel_attention(
    tokens: Tensor, qkv_weight: Tensor, qkv_bias: Tensor, temperature: Tensor
) -> ChannelAttention:
    """Compute cross-covariance attention as the formula says, and keep all of it.

    Args:
        tokens: (B, N, C), after the norm.
        qkv_weight: (3 * C, C), queries first, then keys, then values; heads are consecutive.
        qkv_bias: (3 * C,).
        temperature: scale of each head, (heads, 1, 1).
    """
    qkv = F.linear(tokens, qkv_weight, qkv_bias).unflatten(-1, (3, len(temperature), -1))
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    query, key = F.normalize(query, dim=-2), F.normalize(key, dim=-2)
    logits = query.mT @ key * temperature
    return ChannelAttention(query, key, value, logits, logits.softmax(dim=-1))


def place_contributions(query: Tensor, key: Tensor, temperature: Tensor, weights: Tensor) -> Tensor:
    """What every place contributes to a weighted sum of the logits.

    Args:
        query: (B, heads, N, d), of unit norm over the places.
        key: (B, heads, N, d), likewise.
        temperature: scale of each head, (heads, 1, 1).
        weights: of the logits, (B, heads, d, d). A single 1 gives the map of a single logit.

    Returns:
        (B, heads, N); the sum over the places is that of weights * logits.
    """
    return ((query @ weights) * key).sum(dim=-1) * temperature[..., 0]


def driving_places(attention: ChannelAttention, temperature: Tensor) -> Tensor:
    """The map of each head that this module's text defines, (B, heads, N)."""
    excess = attention.attention - 1 / attention.attention.shape[-1]
    return place_contributions(attention.query, attention.key, temperature, excess)
