"""Each differentiable op, its output and all its gradients, against a plain float64 form."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import plain_ops as plain
import pytest
import torch

pytest.importorskip("mmcv", reason="the ops are those of mmcv")

from mmcv.ops import (
    BorderAlign,
    PSAMask,
    RoIPool,
    carafe,
    deform_conv2d,
    deform_roi_pool,
    modulated_deform_conv2d,
    roi_align,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)

# how far, in parts of the largest value, a dtype may be from float64
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}
POOLED = (2, 3)
ROIS = torch.tensor(
    [
        [0, 1.25, 2.125, 9.75, 8.25],  # inside
        [1, -4.0, -3.0, 5.5, 13.0],  # over the border
        [0, 3.0, 4.0, 3.375, 4.25],  # smaller than a cell
        [1, 40.0, 40.0, 50.0, 60.0],  # wholly outside
        [0, 2.0, 2.0, 2.0, 2.0],  # without extent
        [1, 8.0, 8.0, 3.0, 9.0],  # turned inside out
    ]
)
BOXES = torch.stack((ROIS[:, 1:] / 2, ROIS[:, 1:] / 4))
KERNEL = (3, 2)
CONVOLUTIONS = [  # stride, padding, dilation (height, width), groups, offset groups
    ((1, 1), (0, 0), (1, 1), 1, 1),
    ((2, 1), (1, 2), (1, 2), 1, 2),
    ((1, 1), (1, 1), (1, 1), 4, 1),
    ((1, 2), (2, 0), (2, 1), 2, 2),
]
LEVELS = ((3, 4), (2, 2), (1, 5))
TARGETS = torch.tensor([0, 3, 1, 4, 2, 4, 0])  # 4 is background
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.5, 3.0], dtype=torch.float64)
FOCAL = list(product((2.0, 0.5, 0.0), (0.25,), (None, CLASS_WEIGHTS)))  # gamma, alpha, weights


def rand(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def distinct(*shape):
    """Values that differ in every dtype, so that a maximum is in one place."""
    order = torch.randperm(torch.Size(shape).numel(), generator=torch.Generator().manual_seed(0))
    return order.double().view(shape) / 64


def convolution_operands(stride, padding, dilation, groups, offset_groups):
    """Input, offset and weight for 4 input and 4 output channels."""
    size = [
        (cells + 2 * padding[i] - dilation[i] * (KERNEL[i] - 1) - 1) // stride[i] + 1
        for i, cells in enumerate((7, 6))
    ]
    # between cells in every dtype: at a cell the slope of an offset depends on the side
    numbers = rand(2, 2 * offset_groups * KERNEL[0] * KERNEL[1], *size) * 4 - 2
    offset = numbers.floor() + 0.2 + 0.6 * (numbers - numbers.floor())
    return [rand(2, 4, 7, 6), offset, rand(4, 4 // groups, *KERNEL) - 0.5]


def modulated_operands(*settings):
    """Input, offset, mask, weight and bias."""
    image, offset, weight = convolution_operands(*settings)
    return [image, offset, rand(*offset[:, ::2].shape), weight, rand(4)]


def larger_operands(*settings):
    """With offsets and masks of twice the output's size, as DyHead has them."""
    image, offset, mask, weight, bias = modulated_operands(*settings)
    offset, mask = (taps.repeat(1, 1, 2, 2) for taps in (offset, mask))
    return [image, offset, mask, weight, bias]


def first_values(image, offset, mask, weight, bias, *settings):
    """The plain form reads larger offsets and masks value by value, as mmcv's kernels do."""
    height, width = (size // 2 for size in offset.shape[2:])
    offset, mask = (
        taps.flatten(1)[:, : taps.shape[1] * height * width].unflatten(1, (-1, height, width))
        for taps in (offset, mask)
    )
    return plain.deform_conv(image, offset, mask, weight, bias, *settings)


def attention_operands():
    """Values, locations (some of them beyond the map) and weights; 2 heads of 3 channels."""
    cells = sum(height * width for height, width in LEVELS)
    return [rand(2, cells, 2, 3), rand(2, 3, 2, 3, 2, 2) * 1.8 - 0.4, rand(2, 3, 2, 3, 2)]


def attend(value, locations, weights):
    """The function that mmcv's layer calls for tensors on a GPU."""
    shapes = torch.tensor(LEVELS, device=value.device)
    starts = torch.tensor([0, 12, 16], device=value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


def served_loss(function, logits, gamma, alpha, weight, reduction):
    weight = None if weight is None else weight.to(logits)
    return function(logits, TARGETS.to(logits.device), gamma, alpha, weight, reduction)


class Op(NamedTuple):
    """An op as mmcv calls it, its plain form, and what both are given.

    `served` and `plain` take the operands and one of the settings; `operands` makes float64 ones.
    """

    served: Callable
    plain: Callable
    operands: Callable
    settings: list


OPS = {
    "roi_align": Op(
        lambda x, m, a, r: roi_align(x, ROIS.to(x.device), POOLED, 0.5, r, m, a),
        lambda x, m, a, r: plain.roi_align(x, ROIS, POOLED, 0.5, r, m, a),
        lambda *_: [rand(2, 3, 5, 6)],
        list(product(("avg", "max"), (True, False), (0, 2))),  # pool mode, aligned, sampling ratio
    ),
    "roi_pool": Op(
        lambda x, scale: RoIPool(POOLED, scale)(x, ROIS.to(x.device)),
        lambda x, scale: plain.roi_pool(x, ROIS, POOLED, scale),
        lambda *_: [distinct(2, 3, 5, 6)],
        [(1.0,), (0.5,), (0.3,)],
    ),
    "deform_roi_pool": Op(
        lambda x, o, r: deform_roi_pool(x, ROIS.to(x.device), o, POOLED, 0.5, r, 0.3),
        lambda x, o, r: plain.roi_align(x, ROIS, POOLED, 0.5, r, moves=0.3 * o),
        lambda *_: [rand(2, 3, 5, 6), rand(len(ROIS), 2, *POOLED) * 3 - 1.5],
        [(0,), (2,)],  # sampling ratio
    ),
    "border_align": Op(
        lambda x, parts: BorderAlign(parts)(x, BOXES.to(x.device)),
        lambda x, parts: plain.border_align(x, BOXES, parts),
        lambda *_: [rand(2, 12, 5, 6)],
        [(1,), (5,)],
    ),
    "deform_conv": Op(
        deform_conv2d,
        lambda x, o, w, *settings: plain.deform_conv(x, o, None, w, None, *settings),
        convolution_operands,
        CONVOLUTIONS,
    ),
    "modulated_deform_conv": Op(
        modulated_deform_conv2d, plain.deform_conv, modulated_operands, CONVOLUTIONS
    ),
    "modulated_deform_conv of larger maps": Op(
        modulated_deform_conv2d, first_values, larger_operands, CONVOLUTIONS[1:2]
    ),
    "ms_deform_attn": Op(
        attend,
        # what mmcv's layer calls for tensors on a CPU
        lambda v, *rest: multi_scale_deformable_attn_pytorch(v, torch.tensor(LEVELS), *rest),
        attention_operands,
        [()],
    ),
    "carafe": Op(
        carafe,
        plain.carafe,
        lambda kernel, groups, scale: [
            rand(2, 4, 3, 4),
            rand(2, groups * kernel**2, 3 * scale, 4 * scale),
        ],
        [(3, 2, 2), (1, 1, 3), (5, 4, 1), (5, 1, 2)],  # kernel size, groups, scale
    ),
    "psa_mask": Op(
        lambda x, psa_type, size: PSAMask(psa_type, size)(x),
        plain.psa_mask,
        lambda _, size: [rand(2, size[0] * size[1], 4, 3)],
        # smaller than the map, even, larger than it, so large that some weights reach no cell
        list(product(("collect", "distribute"), ((3, 3), (2, 4), (7, 5), (13, 11)))),
    ),
    "sigmoid_focal_loss": Op(
        lambda x, *settings: served_loss(sigmoid_focal_loss, x, *settings, "none"),
        lambda x, *settings: plain.sigmoid_focal_loss(x, TARGETS, *settings),
        lambda *_: [rand(7, 4) * 6 - 3],
        FOCAL,
    ),
    "softmax_focal_loss": Op(  # mmcv cannot differentiate it unreduced
        lambda x, *settings: served_loss(softmax_focal_loss, x, *settings, "sum"),
        lambda x, *settings: plain.softmax_focal_loss(x, TARGETS, *settings).sum(),
        lambda *_: [rand(7, 4) * 6 - 3],
        FOCAL,
    ),
}
CASES = [
    pytest.param(op, settings, id=f"{name}-{number}")
    for name, op in OPS.items()
    for number, settings in enumerate(op.settings)
]


@pytest.mark.parametrize("op, settings", CASES)
@pytest.mark.parametrize(
    "dtype, layout",
    [(dtype, torch.contiguous_format) for dtype in TOLERANCES]
    + [(torch.float32, torch.channels_last)],
)
def test_output_and_gradients(op, settings, dtype, layout, device, output_and_gradients):
    def in_layout(tensor):
        return tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor

    operands = [operand.to(dtype) for operand in op.operands(*settings)]
    actual = output_and_gradients(
        lambda *o: in_layout(op.served(*o, *settings)),
        [in_layout(operand.to(device)) for operand in operands],
    )
    expected = output_and_gradients(
        lambda *o: op.plain(*o, *settings), [operand.double() for operand in operands]
    )
    for ours, other in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        assert other.any()
        tolerance = TOLERANCES[dtype] * max(1.0, float(other.abs().max()))
        torch.testing.assert_close(ours.double(), other, rtol=0, atol=tolerance)
