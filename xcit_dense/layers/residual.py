"""The way around a branch of the block."""

import torch
from torch import Tensor, nn


class Residual:
    """tokens + drop_path(layer_scale * branch(tokens)), without keeping what that needs not.

    With gradients the layer scale belongs into the last weight of the branch (:attr:`scale`): a
    product by itself would keep the output of the branch for backward. Without gradients it is
    applied together with the sum.

    Args:
        layer_scale: (C,), or None if it is in the weights already.
        drop_path: skips the branch for some samples in training.
    """

    def __init__(self, layer_scale: Tensor | None, drop_path: nn.Module) -> None:
        self.layer_scale = layer_scale
        self.drop_path = drop_path

    @property
    def scale(self) -> Tensor | None:
        """(C,), the factor that the branch puts into its last weight, if any."""
        return self.layer_scale if torch.is_grad_enabled() else None

    def __call__(self, tokens: Tensor, update: Tensor) -> Tensor:
        """Add what the branch has made of the tokens (..., C) to them."""
        update = self.drop_path(update)
        if self.layer_scale is None or torch.is_grad_enabled():
            return tokens + update
        return torch.addcmul(tokens, update.to(tokens.dtype), self.layer_scale)


class NoResidual:
    """The branch by itself, where a :class:`Residual` could stand."""

    scale = None

    def __call__(self, tokens: Tensor, update: Tensor) -> Tensor:
        """Return what the branch has made of the tokens."""
        return update


NO_RESIDUAL = NoResidual()
