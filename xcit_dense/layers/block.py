"""The XCiT block: channels attend, neighbours talk, each token thinks."""

from collections.abc import Callable

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from xcit_dense.layers.cross_covariance_attention import CrossCovarianceAttention
from xcit_dense.layers.feed_forward import FeedForward
from xcit_dense.layers.local_patch_interaction import LocalPatchInteraction
from xcit_dense.layers.residual import Residual
from xcit_dense.ops import TokenNorm

LAYER_NORM_EPS = 1e-6


class Block(nn.Module):
    """XCA, LPI and a feed-forward network, each behind a LayerNorm and a layer scale.

    Source: XCiT paper, section 3.3 and figure 1; layer scale after CaiT (arXiv 2103.17239).

    The norms and the linear layers inside are weights for :mod:`xcit_dense.ops` and never called
    as modules: hooks belong on the block or its three branches. Without gradients the output of
    a branch is overwritten later, so a hook on a branch copies what it keeps.

    Args:
        embed_dims: width C of a token.
        num_heads: heads of the attention.
        eta: initial value of the layer scale.
        mlp_ratio: hidden width of the feed-forward network, in units of C.
        drop_path_rate: probability with which a sample skips a branch in training.
        norm_layer: makes the norm of a map from its number of channels.
        attention: how attention is computed, ``auto``, ``gram`` or ``direct``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        eta: float = 1.0,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
        attention: str = "auto",
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(embed_dims, eps=LAYER_NORM_EPS)
        self.attention = CrossCovarianceAttention(embed_dims, num_heads, form=attention)
        self.attention_layer_scale = nn.Parameter(torch.full((embed_dims,), eta))

        self.interaction_norm = nn.LayerNorm(embed_dims, eps=LAYER_NORM_EPS)
        self.interaction = LocalPatchInteraction(embed_dims, norm_layer)
        self.interaction_layer_scale = nn.Parameter(torch.full((embed_dims,), eta))

        self.ffn_norm = nn.LayerNorm(embed_dims, eps=LAYER_NORM_EPS)
        self.ffn = FeedForward(embed_dims, int(embed_dims * mlp_ratio))
        self.ffn_layer_scale = nn.Parameter(torch.full((embed_dims,), eta))

        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self,
        tokens: Tensor,
        height: int,
        width: int,
        scratch: list[Tensor] | None = None,
        overwrite: bool = False,
    ) -> Tensor:
        """Map tokens (B, height * width, C) to (B, height * width, C).

        Args:
            tokens: (B, height * width, C).
            height: rows of the grid.
            width: columns of the grid.
            scratch: tensors like ``tokens`` that are in nobody's use: taken from before new
                memory is, and given back to. Without gradients only.
            overwrite: ``tokens`` may be overwritten. Without gradients only.
        """
        attended = self.attention(
            tokens,
            norm=_token_norm(self.attention_norm),
            residual=Residual(self.attention_layer_scale, self.drop_path),
            out=tokens if overwrite else _take(scratch),
        )
        tokens = self.interaction(
            attended,
            height,
            width,
            norm=_token_norm(self.interaction_norm),
            residual=Residual(self.interaction_layer_scale, self.drop_path),
            out=_take(scratch),
        )
        if scratch is not None:
            scratch.append(attended)
        return self.ffn(
            tokens,
            norm=_token_norm(self.ffn_norm),
            residual=Residual(self.ffn_layer_scale, self.drop_path),
            out=None if torch.is_grad_enabled() else tokens,
        )


def _token_norm(norm: nn.LayerNorm) -> TokenNorm:
    return TokenNorm(norm.weight, norm.bias, norm.eps)


def _take(scratch: list[Tensor] | None) -> Tensor | None:
    return scratch.pop() if scratch else None
