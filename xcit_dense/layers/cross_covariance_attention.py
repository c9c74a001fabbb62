"""Multi-head cross-covariance attention with its projections."""

import torch
from torch import Tensor, nn

from xcit_dense.layers.residual import NO_RESIDUAL, NoResidual, Residual
from xcit_dense.ops import FORMS, NO_NORM, NoNorm, TokenNorm, cross_covariance_attention


class CrossCovarianceAttention(nn.Module):
    """XCA: projections to query, key and value, attention between channels, output projection.

    Source: XCiT paper, section 3.2.

    Args:
        embed_dims: width C of a token; ``num_heads`` must divide it.
        num_heads: heads the channels are divided into.
        attention_dropout: dropout probability on the attention matrix.
        projection_dropout: dropout probability on the output.
        form: how attention is computed, ``auto``, ``gram`` or ``direct``; see
            :func:`xcit_dense.ops.cross_covariance_attention`.

    Raises:
        ValueError: an unknown form.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
        form: str = "auto",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"attention={form!r}: must be one of {', '.join(FORMS)}")
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.projection = nn.Linear(embed_dims, embed_dims)
        self.attention_dropout = attention_dropout
        self.projection_dropout = nn.Dropout(projection_dropout)
        self.form = form

    def forward(
        self,
        tokens: Tensor,
        norm: TokenNorm | NoNorm = NO_NORM,
        residual: Residual | NoResidual = NO_RESIDUAL,
        out: Tensor | None = None,
    ) -> Tensor:
        """Map tokens (B, N, C) to (B, N, C).

        Args:
            tokens: (B, N, C).
            norm: LayerNorm of the tokens that comes first.
            residual: the way around.
            out: where the result may be put, ``tokens`` itself for one; without gradients only.
        """
        return cross_covariance_attention(
            tokens,
            self.qkv.weight,
            self.qkv.bias,
            self.projection.weight,
            self.projection.bias,
            self.temperature,
            norm=norm,
            projection_scale=residual.scale,
            dropout_p=self.attention_dropout if self.training else 0.0,
            form=self.form,
            finish=lambda tokens, mixed: residual(tokens, self.projection_dropout(mixed)),
            whole=self.training,
            out=out,
        )
