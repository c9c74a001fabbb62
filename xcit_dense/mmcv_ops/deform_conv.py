"""Deformable convolution (Dai et al. 2017) and its modulated form (Zhu et al. 2018).

mmcv and torchvision lay out offsets (y before x, tap by tap) and masks alike. Shapes, with `group`
groups, G offset groups and a kernel of kH x kW taps:
    input (B, C, H, W), weight (O, C / group, kH, kW), offset (B, G * kH * kW * 2, Ho, Wo) in cells,
    mask (B, G * kH * kW, Ho, Wo), bias (O,), output (B, O, Ho, Wo).
mmcv passes strides, paddings, dilations and the numbers of groups by name, as `_PLAIN` and
`_MODULATED` have them; they arrive here as `sizes`. Its buffers, `im2col_step` and `scale`, which
is always 1, are unused.
"""

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  (registers the kernels torch.ops.torchvision.*)
from torch import Tensor

from xcit_dense.mmcv_ops.shared import to_kernel_precision

# mmcv's names, in the order of torchvision's kernels.
_PLAIN = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
_MODULATED = ("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", *_PLAIN[6:])
_FAR_OUTSIDE = -1e6  # an offset, in cells, that leads out of any map


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, *buffers: Tensor, **sizes: int
) -> None:
    """Deformable convolution without mask or bias."""
    arguments = _kernel_arguments(output.shape[2:], sizes, input, weight, offset)
    output.copy_(torch.ops.torchvision.deform_conv2d(*arguments))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    *buffers: Tensor,
    **sizes: int,
) -> None:
    """Gradients of `deform_conv_forward` with respect to input and offset."""
    grad_input, _, grad_offset, *_ = _gradients(gradOutput, sizes, input, weight, offset)
    gradInput.copy_(grad_input)
    gradOffset.copy_(grad_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    *buffers: Tensor,
    **sizes: int,
) -> None:
    """Gradient of `deform_conv_forward` with respect to the weight.

    torchvision's kernel computes all gradients at once, so that a backward through input and weight
    does its work twice. The gradient does not depend on the weight, which mmcv does not pass.
    """
    weight = torch.zeros_like(gradWeight)
    _, grad_weight, *_ = _gradients(gradOutput, sizes, input, weight, offset)
    gradWeight.copy_(grad_weight)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Modulated deformable convolution: each tap is weighed by the mask.

    Offset and mask may be of larger maps than the output, see `_as_kernels_read`; the bias is
    ignored unless `with_bias`.
    """
    operands = (input, weight, offset, mask, bias if with_bias else None)
    arguments = _kernel_arguments(output.shape[2:], sizes, *operands)
    output.copy_(torch.ops.torchvision.deform_conv2d(*arguments))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Gradients of `modulated_deform_conv_forward`; that of the bias only if `with_bias`."""
    operands = (input, weight, offset, mask, bias if with_bias else None)
    gradients = _gradients(grad_output, sizes, *operands)
    grad_input.copy_(gradients[0])
    grad_weight.copy_(gradients[1])
    for whole, seen in ((grad_offset, gradients[2]), (grad_mask, gradients[3])):
        unseen = whole.shape[1:].numel() - seen.shape[1:].numel()
        whole.copy_(F.pad(seen.flatten(1), (0, unseen)).view(whole.shape))
    if with_bias:
        grad_bias.copy_(gradients[4])


def _gradients(grad_output: Tensor, sizes: dict[str, int], *operands: Tensor) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask and bias, at the border as mmcv's.

    A tap exactly one cell before the map (at -1, as with padding 1 and zero offsets) is at a kink
    of the interpolation. torchvision gives its offset the slope towards the map, mmcv's kernels
    give 0. mmcv's choice is made here, for recipes that start from zero offsets.
    """
    arguments = _kernel_arguments(grad_output.shape[2:], sizes, *operands)
    _, weight, offset, *_ = arguments
    gradients = torch.ops.torchvision._deform_conv2d_backward(grad_output.to(weight), *arguments)
    before_map = _taps_before_map(offset, weight.shape[2:], arguments[5:-1])
    gradients[2].masked_fill_(before_map, 0.0)
    return gradients


def _kernel_arguments(
    output_size: torch.Size,
    sizes: dict[str, int],
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple:
    """What torchvision's kernels take: five tensors of one precision, geometry, whether to mask.

    They want a tensor in place of each None. A tap whose offset is NaN lies outside the map, as in
    mmcv's kernels; torchvision's would read memory that is not theirs.
    """
    with_mask = mask is not None
    geometry = [sizes[name] for name in (_MODULATED if with_mask else _PLAIN)]
    if with_mask:
        offset, mask = (_as_kernels_read(taps, output_size) for taps in (offset, mask))
    else:
        mask = input.new_zeros(len(input), 1)
    bias = input.new_zeros(len(weight)) if bias is None else bias
    input, weight, offset, mask, bias = to_kernel_precision(input, weight, offset, mask, bias)
    offset = offset.masked_fill(offset.isnan(), _FAR_OUTSIDE)
    return input, weight, offset, mask, bias, *geometry, with_mask


def _as_kernels_read(taps: Tensor, output_size: torch.Size) -> Tensor:
    """What mmcv's kernels see of offsets or masks (B, K, h, w) larger than the output.

    DyHead (Dai et al. 2021) hands the offsets of a level to a convolution of the next coarser one.
    torchvision refuses them. mmcv's kernels take the values of an image one after the other, row by
    row of the output: of K maps of h x w they see the first K * Ho * Wo values, as K maps of
    Ho x Wo, and leave the rest without a gradient. Models are trained that way, so it is kept.

    Returns:
        (B, K, Ho, Wo); `taps` as they are if they have too few values for it.
    """
    batch, maps, *size = taps.shape
    height, width = output_size
    if size == [height, width] or taps[0].numel() < maps * height * width:
        return taps
    return taps.flatten(1)[:, : maps * height * width].view(batch, maps, height, width)


def _taps_before_map(offset: Tensor, kernel_size: torch.Size, geometry: list[int]) -> Tensor:
    """Marks, in the shape of `offset`, the taps at -1 or less in y or in x."""

    def positions(axis: int) -> Tensor:  # (taps, outputs) along one axis, before they are offset
        stride, padding, dilation = geometry[axis : axis + 6 : 2]
        taps = torch.arange(kernel_size[axis], device=offset.device)
        outputs = torch.arange(offset.shape[2 + axis], device=offset.device)
        return taps[:, None] * dilation + outputs * stride - padding

    by_tap = offset.unflatten(1, (geometry[-1], *kernel_size, 2))
    offset_y, offset_x = by_tap.unbind(-3)  # (B, G, kH, kW, Ho, Wo)
    above = offset_y + positions(0)[:, None, :, None] <= -1
    left = offset_x + positions(1)[:, None, :] <= -1
    return (above | left).unsqueeze(-3).expand_as(by_tap).reshape(offset.shape)
