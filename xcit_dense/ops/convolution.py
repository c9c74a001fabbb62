"""Convolutions whose input is computed again in backward."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution with given weights, and its gradients.

    Attributes:
        stride: of both axes.
        padding: zeros at every border.
        groups: groups of channels.
        transposed: the transposed convolution instead.
    """

    stride: int = 1
    padding: int = 0
    groups: int = 1
    transposed: bool = False

    def __call__(self, feature_map: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve (B, C_in, H, W)."""
        if self.transposed:
            return torch.nn.functional.conv_transpose2d(
                feature_map, weight, bias, self.stride, self.padding, groups=self.groups
            )
        return torch.nn.functional.conv2d(
            feature_map, weight, bias, self.stride, self.padding, groups=self.groups
        )

    def backward(
        self, grads: tuple[Tensor], feature_map: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradients of input, weight and bias, each in its own type."""
        (grad,) = grads
        grad_map, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad,
            feature_map.to(grad.dtype),
            weight.to(grad.dtype),
            bias_sizes=None if bias is None else [len(bias)],
            stride=[self.stride] * 2,
            padding=[self.padding] * 2,
            dilation=[1, 1],
            transposed=self.transposed,
            output_padding=[0, 0],
            groups=self.groups,
            output_mask=[True, True, bias is not None],
        )
        return (
            grad_map.to(feature_map.dtype),
            grad_weight.to(weight.dtype),
            None if bias is None else grad_bias.to(bias.dtype),
        )

    @classmethod
    def of(cls, module: torch.nn.Conv2d | torch.nn.ConvTranspose2d) -> "Convolution":
        """The convolution that a module with equal axes and zero padding computes."""
        transposed = isinstance(module, torch.nn.ConvTranspose2d)
        return cls(module.stride[0], module.padding[0], module.groups, transposed)
