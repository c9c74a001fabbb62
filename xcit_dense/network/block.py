"""The XCiT block: channels attend, neighbours talk, each token thinks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from xcit_dense.network.attention import CrossCovarianceAttention
from xcit_dense.network.calling import (
    again,
    again_but_products,
    linear,
    may_compute_again,
)

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
        keep_less: keep 11 tensors of N x C for backward instead of 27, and compute what is cheap
            once more; only where nobody has changed a child, as hooks would see it twice.
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
        keep_less: bool = True,
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
        self.keep_less = keep_less

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (B, height * width, C) to (B, height * width, C)."""
        if self.keep_less and torch.is_grad_enabled():
            if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
                return again_but_products(self._forward, tokens, height, width)
            own = CrossCovarianceAttention, FeedForward
            if (type(self.attention), type(self.ffn)) == own and may_compute_again(self):
                return self._forward_keeping_less(tokens, height, width)
        return self._forward(tokens, height, width)

    def _forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        attended = self.attention(self.attention_norm(tokens))
        tokens = self._interact(tokens, attended, height, width)
        update = self.ffn(self.ffn_norm(tokens))
        return self._add(tokens, update, self.ffn_layer_scale)

    def _interact(self, tokens: Tensor, attended: Tensor, height: int, width: int) -> Tensor:
        tokens = self._add(tokens, attended, self.attention_layer_scale)
        update = self.interaction(self.interaction_norm(tokens), height, width)
        return self._add(tokens, update, self.interaction_layer_scale)

    def _add(self, tokens: Tensor, update: Tensor, layer_scale: Tensor | None) -> Tensor:
        """tokens + layer_scale * update, but for samples that skip the branch."""
        update = self.drop_path(update)
        if layer_scale is None:  # it is in the weights: see optimize_for_inference
            return tokens + update
        return torch.addcmul(tokens, layer_scale, update)

    def _forward_keeping_less(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """The same in five steps, of which each keeps its inputs: 1, 3, 1, 1 + 4 and 1 N x C."""
        attention, ffn = self.attention, self.ffn
        if attention.takes_gram_form():
            attended = again(lambda tokens: attention(self.attention_norm(tokens)), tokens)
        else:
            qkv = again(lambda tokens: linear(attention.qkv, self.attention_norm(tokens)), tokens)
            attended = again(attention.mix, qkv)
        tokens = again(
            lambda tokens, attended: self._interact(tokens, attended, height, width),
            tokens,
            attended,
            norms=self.interaction,
        )
        hidden = again(lambda tokens: linear(ffn.fc1, self.ffn_norm(tokens)), tokens)
        return self._add(tokens, again(ffn.from_hidden, hidden), self.ffn_layer_scale)


class LocalPatchInteraction(nn.Module):
    """LPI: depthwise 3x3 convolution, GELU, norm, depthwise 3x3 convolution.

    Source: XCiT paper, section 3.3.

    Args:
        embed_dims: width C of a token.
        norm_layer: makes the norm of a map from its number of channels.
    """

    def __init__(
        self, embed_dims: int, norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.norm = norm_layer(embed_dims)
        self.conv2 = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map normed tokens (B, height * width, C) to (B, height * width, C)."""
        feature_map = tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        feature_map = self.conv2(self.norm(F.gelu(self.conv1(feature_map))))
        return feature_map.permute(0, 2, 3, 1).flatten(1, 2)


class FeedForward(nn.Module):
    """Linear layer, GELU, linear layer, on each token by itself.

    Args:
        embed_dims: width C of a token.
        hidden_dims: width of the layer between.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map normed tokens (B, N, C) to (B, N, C)."""
        return self.from_hidden(linear(self.fc1, tokens))

    def from_hidden(self, hidden: Tensor) -> Tensor:
        """What follows the first layer, (B, N, hidden_dims) to (B, N, C)."""
        return linear(self.fc2, F.gelu(hidden))
