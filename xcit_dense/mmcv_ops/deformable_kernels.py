"""torchvision's kernels of deformable convolution, with mmcv's gradient at the border.

Shapes are those of `deformable.py`.
"""

from typing import NamedTuple

import torch
import torchvision  # noqa: F401  (registers the kernels torch.ops.torchvision.*)
from torch import Tensor

from xcit_dense.mmcv_ops.precision import to_kernel_precision

# an offset, in cells, that leads out of any map
_FAR_OUTSIDE = -1e6


class Geometry(NamedTuple):
    """Whole numbers of a deformable convolution, in the order torchvision's kernels take them."""

    stride_height: int
    stride_width: int
    padding_height: int
    padding_width: int
    dilation_height: int
    dilation_width: int
    groups: int
    offset_groups: int

    @property
    def vertical(self) -> tuple[int, int, int]:
        """Stride, padding and dilation in y."""
        return self.stride_height, self.padding_height, self.dilation_height

    @property
    def horizontal(self) -> tuple[int, int, int]:
        """Stride, padding and dilation in x."""
        return self.stride_width, self.padding_width, self.dilation_width


class Gradients(NamedTuple):
    """Gradients, in the order torchvision's kernel returns them."""

    input: Tensor
    weight: Tensor
    offset: Tensor
    mask: Tensor
    bias: Tensor


def convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Runs torchvision's forward kernel; returns (B, O, Ho, Wo)."""
    operands = _kernel_operands(input, weight, offset, mask, bias)
    return torch.ops.torchvision.deform_conv2d(*operands, *geometry, mask is not None)


def differentiate(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: Geometry,
) -> Gradients:
    """Runs torchvision's backward kernel, and takes mmcv's gradient at the border.

    A tap exactly one cell before the map (at -1, as with padding 1 and zero offsets) is at a kink
    of the interpolation. torchvision gives its offset the slope towards the map, mmcv's kernels
    give 0. mmcv's choice is made here, for recipes that start from zero offsets.
    """
    operands = _kernel_operands(input, weight, offset, mask, bias)
    (grad,) = to_kernel_precision(grad_output)
    gradients = Gradients(
        *torch.ops.torchvision._deform_conv2d_backward(grad, *operands, *geometry, mask is not None)
    )
    beyond = _taps_before_map(operands[2], weight.shape[-2:], geometry)
    return gradients._replace(offset=gradients.offset.masked_fill(beyond, 0.0))


def _kernel_operands(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """Operands in kernel order and precision; torchvision wants a tensor in place of each None.

    A tap whose offset is NaN lies outside the map, as in mmcv's kernels; torchvision's would read
    memory that is not theirs.
    """
    if mask is None:
        mask = input.new_zeros(input.shape[0], 1)
    if bias is None:
        bias = input.new_zeros(weight.shape[0])
    input, weight, offset, mask, bias = to_kernel_precision(input, weight, offset, mask, bias)
    return input, weight, offset.masked_fill(offset.isnan(), _FAR_OUTSIDE), mask, bias


def _taps_before_map(offset: Tensor, kernel_size: torch.Size, geometry: Geometry) -> Tensor:
    """Marks, in the shape of `offset`, the taps at -1 or less in y or in x."""
    kernel_height, kernel_width = kernel_size
    output_height, output_width = offset.shape[-2:]
    y = _tap_positions(kernel_height, output_height, *geometry.vertical).to(offset.device)
    x = _tap_positions(kernel_width, output_width, *geometry.horizontal).to(offset.device)

    by_tap = offset.unflatten(1, (geometry.offset_groups, kernel_height, kernel_width, 2))
    offset_y, offset_x = by_tap.unbind(-3)
    above = offset_y + y[:, None, :, None] <= -1
    left = offset_x + x[None, :, None, :] <= -1
    return (above | left).unsqueeze(-3).expand_as(by_tap).reshape(offset.shape)


def _tap_positions(taps: int, outputs: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Positions (taps, outputs) of the taps along one axis before they are offset, in cells."""
    return torch.arange(taps)[:, None] * dilation + torch.arange(outputs) * stride - padding
