"""The feed-forward network of the block."""

import torch.nn.functional as F
from torch import Tensor, nn

from xcit_dense.ops import NO_NORM, NoNorm, TokenNorm, after_cheap, linear, map_in_chunks


class FeedForward(nn.Module):
    """Linear layer, GELU, linear layer, on each token by itself.

    For backward only the tokens and the hidden layer before the GELU are kept.

    Args:
        embed_dims: width C of a token.
        hidden_dims: width of the layer between.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(
        self, tokens: Tensor, norm: TokenNorm | NoNorm = NO_NORM, scale: Tensor | None = None
    ) -> Tensor:
        """Map tokens (..., C) to (..., C).

        Args:
            tokens: (..., C).
            norm: LayerNorm of the tokens that comes first.
            scale: (C,), factor of each channel of the result, if any.
        """
        last = (self.fc2.weight, self.fc2.bias, scale)

        def feed(tokens: Tensor) -> Tensor:
            hidden = after_cheap(
                norm,
                linear,
                tokens,
                self.fc1.weight,
                self.fc1.bias,
                cheap_parameters=norm.parameters,
            )
            return after_cheap(F.gelu, linear, hidden, *last)

        return map_in_chunks(feed, tokens, self.fc1.out_features)
