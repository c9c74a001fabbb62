"""The XCiT block: channels attend, neighbours talk, each token thinks."""

from collections.abc import Callable

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from xcit_dense.layers.cross_covariance_attention import CrossCovarianceAttention
from xcit_dense.layers.local_patch_interaction import LocalPatchInteraction

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
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        eta: float = 1.0,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(embed_dims, eps=LAYER_NORM_EPS)
        self.attention = CrossCovarianceAttention(embed_dims, num_heads)
        self.attention_layer_scale = nn.Parameter(torch.full((embed_dims,), eta))

        self.interaction_norm = nn.LayerNorm(embed_dims, eps=LAYER_NORM_EPS)
        self.interaction = LocalPatchInteraction(embed_dims, norm_layer)
        self.interaction_layer_scale = nn.Parameter(torch.full((embed_dims,), eta))

        self.ffn_norm = nn.LayerNorm(embed_dims, eps=LAYER_NORM_EPS)
        self.ffn = Mlp(embed_dims, int(embed_dims * mlp_ratio))
        self.ffn_layer_scale = nn.Parameter(torch.full((embed_dims,), eta))

        self.drop_path = DropPath(drop_path_rate)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (B, height * width, C) to (B, height * width, C)."""
        mixed = self.attention(self.attention_norm(tokens))
        tokens = tokens + self.drop_path(self.attention_layer_scale * mixed)
        local = self.interaction(self.interaction_norm(tokens), height, width)
        tokens = tokens + self.drop_path(self.interaction_layer_scale * local)
        thought = self.ffn(self.ffn_norm(tokens))
        return tokens + self.drop_path(self.ffn_layer_scale * thought)
