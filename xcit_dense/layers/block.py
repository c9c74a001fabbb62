"""The XCiT block: channels attend, neighbours talk, each token thinks."""

from collections.abc import Callable

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from xcit_dense.layers.cross_covariance_attention import CrossCovarianceAttention
from xcit_dense.layers.feed_forward import FeedForward
from xcit_dense.layers.local_patch_interaction import LocalPatchInteraction
from xcit_dense.ops import TokenNorm

LAYER_NORM_EPS = 1e-6


class Block(nn.Module):
    """XCA, LPI and a feed-forward network, each behind a LayerNorm and a layer scale.

    Source: XCiT paper, section 3.3 and figure 1; layer scale after CaiT (arXiv 2103.17239).

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

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (B, height * width, C) to (B, height * width, C)."""
        size = height, width
        add = self._add_branch
        tokens = add(tokens, self.attention, self.attention_norm, self.attention_layer_scale)
        tokens = add(
            tokens, self.interaction, self.interaction_norm, self.interaction_layer_scale, *size
        )
        return add(tokens, self.ffn, self.ffn_norm, self.ffn_layer_scale)

    def _add_branch(
        self,
        tokens: Tensor,
        branch: nn.Module,
        norm: nn.LayerNorm,
        layer_scale: Tensor | None,
        *size: int,
    ) -> Tensor:
        """tokens + layer_scale * branch(norm(tokens)), without keeping what that needs not."""
        token_norm = TokenNorm(norm.weight, norm.bias, norm.eps)
        if torch.is_grad_enabled():
            # in the branch's last weight: a product by itself would keep the branch's output
            update = branch(tokens, *size, norm=token_norm, scale=layer_scale)
            return tokens + self.drop_path(update)
        update = self.drop_path(branch(tokens, *size, norm=token_norm)).to(tokens.dtype)
        if layer_scale is None:  # it is in the weights already
            return torch.add(tokens, update, out=update)
        return torch.addcmul(tokens, update, layer_scale, out=update)
