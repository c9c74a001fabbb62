"""Local patch interaction: the part of the block in which neighbouring tokens talk."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from xcit_dense.layers.activation_checkpoint import untracked_statistics
from xcit_dense.layers.folded_norm import is_local
from xcit_dense.layers.residual import NO_RESIDUAL, NoResidual, Residual
from xcit_dense.ops import (
    NO_NORM,
    Convolution,
    NoNorm,
    TokenNorm,
    after_cheap,
    map_in_bands,
    map_to_tokens,
    tokens_to_map,
)

# Rows up and down that enter a token: one for each of the two 3x3 convolutions.
_REACH = 2


class LocalPatchInteraction(nn.Module):
    """LPI: depthwise 3x3 convolution, GELU, norm, depthwise 3x3 convolution.

    For backward only the tokens are kept: all but the last convolution is computed again.
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

    def forward(
        self,
        tokens: Tensor,
        height: int,
        width: int,
        norm: TokenNorm | NoNorm = NO_NORM,
        residual: Residual | NoResidual = NO_RESIDUAL,
        out: Tensor | None = None,
    ) -> Tensor:
        """Map tokens (B, height * width, C) to (B, height * width, C).

        Args:
            tokens: (B, height * width, C).
            height: rows of the grid.
            width: columns of the grid.
            norm: LayerNorm of the tokens that comes first.
            residual: the way around.
            out: where the result may be put, but not ``tokens``; without gradients only.
        """
        weight, bias = self.conv2.weight, self.conv2.bias
        if residual.scale is not None:
            weight, bias = residual.scale[:, None, None, None] * weight, residual.scale * bias

        def until_last_convolution(tokens: Tensor) -> Tensor:
            feature_map = self.conv1(tokens_to_map(norm(tokens), tokens.shape[1] // width, width))
            return self.norm(F.gelu(feature_map))

        def interact(tokens: Tensor) -> Tensor:
            feature_map = after_cheap(
                until_last_convolution,
                Convolution.of(self.conv2),
                tokens,
                weight,
                bias,
                cheap_parameters=(
                    *norm.parameters,
                    *self.conv1.parameters(),
                    *self.norm.parameters(),
                ),
                second_time=partial(untracked_statistics, self.norm),
            )
            return residual(tokens, map_to_tokens(feature_map))

        whole = self.training or not is_local(self.norm)
        return map_in_bands(interact, tokens, width, _REACH, out=out, whole=whole)
