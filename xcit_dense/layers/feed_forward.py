"""The feed-forward network of the block."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from xcit_dense.layers.residual import NO_RESIDUAL, NoResidual, Residual
from xcit_dense.ops import (
    NO_NORM,
    NoNorm,
    TokenNorm,
    after_cheap,
    first_chunk,
    goes_through_onednn,
    is_recorded,
    linear,
    map_in_chunks,
    prepared_linear,
)


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
        self._prepared: tuple[Callable[[Tensor], Tensor], ...] | None = None

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
        width = self.fc1.out_features
        first, second = (self.fc1.weight, self.fc1.bias), (self.fc2.weight, self.fc2.bias)
        if is_recorded():
            hidden = after_cheap(norm, linear, tokens, *first, cheap_parameters=norm.parameters)
            return residual(tokens, after_cheap(F.gelu, linear, hidden, *second, residual.scale))

        piece = first_chunk(tokens, width)
        if self._prepared and goes_through_onednn(piece):
            to_hidden, from_hidden = self._prepared
        else:
            to_hidden, from_hidden = self._prepare(piece)

        def feed(tokens: Tensor) -> Tensor:
            return residual(tokens, from_hidden(to_hidden(norm(tokens))))

        return map_in_chunks(feed, tokens, width, out=out, whole=self.training)

    def prepare(self) -> None:
        """Prepare the weights as they are now for every input to come, in eval mode on a CPU."""
        piece = self.fc1.weight.new_empty(1024, self.fc1.in_features)
        if goes_through_onednn(piece):  # elsewhere there is nothing to gain
            self._prepared = self._prepare(piece)

    def _prepare(self, piece: Tensor) -> tuple[Callable[[Tensor], Tensor], ...]:
        return (
            prepared_linear(self.fc1.weight, self.fc1.bias, piece, activation="gelu"),
            prepared_linear(self.fc2.weight, self.fc2.bias, piece),
        )
