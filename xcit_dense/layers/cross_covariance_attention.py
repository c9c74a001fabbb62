"""Multi-head cross-covariance attention with its projections."""

import torch
from torch import Tensor, nn

from xcit_dense.ops import cross_covariance_attention


class CrossCovarianceAttention(nn.Module):
    """XCA: projections to query, key and value, attention between channels, output projection.

    Source: XCiT paper, section 3.2.

    Args:
        embed_dims: width C of a token; ``num_heads`` must divide it.
        num_heads: heads the channels are divided into.
        attention_dropout: dropout probability on the attention matrix.
        projection_dropout: dropout probability on the output.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.projection = nn.Linear(embed_dims, embed_dims)
        self.attention_dropout = attention_dropout
        self.projection_dropout = nn.Dropout(projection_dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C)."""
        heads = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, d)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        dropout_p = self.attention_dropout if self.training else 0.0
        mixed = cross_covariance_attention(query, key, value, self.temperature, dropout_p)
        mixed = mixed.transpose(1, 2).flatten(2)
        return self.projection_dropout(self.projection(mixed))
