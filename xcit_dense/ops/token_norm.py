"""The LayerNorm of tokens, as plain tensors."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class TokenNorm(NamedTuple):
    """LayerNorm over the channels of each token.

    Attributes:
        weight: (C,).
        bias: (C,).
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, tokens: Tensor) -> Tensor:
        """Normalize tokens (..., C)."""
        return F.layer_norm(tokens, self.weight.shape, self.weight, self.bias, self.eps)

    @property
    def parameters(self) -> tuple[Tensor, Tensor]:
        return self.weight, self.bias


class NoNorm:
    """Tokens as they are, where a :class:`TokenNorm` could stand."""

    parameters = ()

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the tokens."""
        return tokens


NO_NORM = NoNorm()
