"""Deformable convolution (Dai et al. 2017) and its modulated form (Zhu et al. 2018).

mmcv and torchvision lay out offsets (y before x, tap by tap) and masks alike. Shapes, with `group`
groups, G offset groups and a kernel of kH x kW taps:
    input (B, C, H, W), weight (O, C / group, kH, kW), offset (B, G * kH * kW * 2, Ho, Wo) in cells,
    mask (B, G * kH * kW, Ho, Wo), bias (O,), output (B, O, Ho, Wo).
"""

import torch
from torch import Tensor

from xcit_dense.mmcv_ops.deformable_kernels import Geometry, convolve, differentiate
from xcit_dense.mmcv_ops.oversized_taps import as_kernels_read, as_kernels_write


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Deformable convolution without mask or bias.

    Args:
        input, weight, offset: see the module's shapes.
        output: (B, O, Ho, Wo), overwritten.
        columns, ones, im2col_step: unused; torchvision's kernel has its own buffers.
        kW, kH, dW, dH, padW, padH, dilationW, dilationH: kernel size, stride, padding and dilation.
        group, deformable_group: numbers of groups and of offset groups.
    """
    geometry = Geometry(dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(convolve(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Gradients of `deform_conv_forward` with respect to input and offset.

    Args:
        gradOutput: (B, O, Ho, Wo).
        gradInput: shape of `input`, overwritten.
        gradOffset: shape of `offset`, overwritten.
        input, offset, weight and the rest: as in the forward.
    """
    geometry = Geometry(dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    gradients = differentiate(gradOutput, input, weight, offset, None, None, geometry)
    gradInput.copy_(gradients.input)
    gradOffset.copy_(gradients.offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Gradient of `deform_conv_forward` with respect to the weight, times `scale`.

    torchvision's kernel computes all gradients at once, so that a backward through input and weight
    does its work twice. The gradient does not depend on the weight, which mmcv does not pass.

    Args:
        gradOutput: (B, O, Ho, Wo).
        gradWeight: shape of the weight, overwritten.
        scale: factor on the gradient.
        input, offset and the rest: as in the forward.
    """
    geometry = Geometry(dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    any_weight = torch.zeros_like(gradWeight)
    gradients = differentiate(gradOutput, input, any_weight, offset, None, None, geometry)
    gradWeight.copy_(gradients.weight * scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Modulated deformable convolution: each tap is weighed by the mask.

    Args:
        input, weight, offset, mask: see the module's shapes; offset and mask may be of larger maps
            than the output, see `oversized_taps.py`.
        bias: (O,), ignored unless `with_bias`.
        output: (B, O, Ho, Wo), overwritten.
        ones, columns: unused; torchvision's kernel has its own buffers.
        kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w: kernel size,
            stride, padding and dilation.
        group, deformable_group: numbers of groups and of offset groups.
        with_bias: whether to add the bias.
    """
    geometry = Geometry(
        stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group
    )
    used_bias = bias if with_bias else None
    offset, mask = (as_kernels_read(taps, output.shape[-2:]) for taps in (offset, mask))
    output.copy_(convolve(input, weight, offset, mask, used_bias, geometry))


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
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Gradients of `modulated_deform_conv_forward`.

    Args:
        grad_input, grad_weight, grad_offset, grad_mask: shapes of their namesakes, overwritten.
        grad_bias: (O,), overwritten if `with_bias`, else untouched.
        grad_output: (B, O, Ho, Wo).
        input, weight, bias, offset, mask and the rest: as in the forward.
    """
    geometry = Geometry(
        stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group
    )
    used_bias = bias if with_bias else None
    offset, mask = (as_kernels_read(taps, grad_output.shape[-2:]) for taps in (offset, mask))
    gradients = differentiate(grad_output, input, weight, offset, mask, used_bias, geometry)
    grad_input.copy_(gradients.input)
    grad_weight.copy_(gradients.weight)
    grad_offset.copy_(as_kernels_write(gradients.offset, grad_offset.shape))
    grad_mask.copy_(as_kernels_write(gradients.mask, grad_mask.shape))
    if with_bias:
        grad_bias.copy_(gradients.bias)
