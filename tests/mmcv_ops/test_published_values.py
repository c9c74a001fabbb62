"""Inputs, outputs and gradients that mmcv publishes in its own tests of these ops.

From https://github.com/open-mmlab/mmcv/tree/main/tests/test_ops; they hold for its compiled
kernels. A gradient is that of the output's sum.
"""

import pytest
import torch

pytest.importorskip("mmcv", reason="the ops are those of mmcv")

from mmcv.ops import (
    DeformConv2dPack,
    DeformRoIPoolPack,
    ModulatedDeformConv2dPack,
    bbox_overlaps,
    border_align,
    roi_align,
    roi_pool,
    sigmoid_focal_loss,
    soft_nms,
    softmax_focal_loss,
)


def assert_published(function, input, output, gradient):
    input = torch.tensor(input, requires_grad=True)
    actual = function(input)
    actual.sum().backward()
    torch.testing.assert_close(actual, torch.tensor(output), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(input.grad, torch.tensor(gradient), rtol=1e-4, atol=1e-5)


BOXES = torch.tensor([[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]])
SCORES = torch.tensor([0.6, 0.9, 0.7, 0.2])


@pytest.mark.parametrize(
    "method, kept, scores",
    [
        ("linear", [1, 0, 2, 3], [0.9, 0.6, 0.29024392, 0.2]),
        ("gaussian", [1, 0, 2, 3], [0.9, 0.59630775, 0.35275510, 0.18650459]),
        ("naive", [1, 0, 3], [0.9, 0.6, 0.2]),
    ],
)
def test_soft_nms(method, kept, scores):
    dets, indices = soft_nms(BOXES, SCORES, 0.3, sigma=0.5, min_score=0.01, method=method)
    assert indices.tolist() == kept
    torch.testing.assert_close(dets[:, 4], torch.tensor(scores))


def test_bbox_overlaps():
    first = torch.tensor([[1.0, 1, 3, 4], [2, 2, 3, 4], [7, 7, 8, 8]])
    second = torch.tensor([[0.0, 2, 2, 5], [2, 1, 3, 3]])
    expected = torch.tensor([[1 / 3, 0.5], [0.2, 0.5], [0, 0]])
    torch.testing.assert_close(bbox_overlaps(first, second, offset=1), expected)
    aligned = bbox_overlaps(first[:2], second, aligned=True, offset=1)
    torch.testing.assert_close(aligned, expected.diagonal())


ROIS = torch.tensor([[0.0, 0, 0, 3, 3]])
MAP = [[[[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]]]
# RoIAlign's gradient of a cell is the product of what its row and its column get.
SHARES = torch.tensor([0.6875, 0.625, 0.625, 0.0625])


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: roi_align(x, ROIS, 2, 1.0, 2, "avg", True),
        lambda x: DeformRoIPoolPack(2, 1, spatial_scale=1.0, sampling_ratio=2)(x, ROIS),
    ],
    ids=["roi_align", "deform_roi_pool without offsets"],
)
def test_roi_align(pool):
    assert_published(
        pool, MAP, [[[[1.9375, 4.75], [7.5625, 10.375]]]], [[torch.outer(SHARES, SHARES).tolist()]]
    )


def test_roi_pool():
    gradient = [[[[0.0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]]]]
    assert_published(lambda x: roi_pool(x, ROIS, 2, 1.0), MAP, [[[[4.0, 8], [12, 16]]]], gradient)


def test_border_align():
    input = [
        [[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]],
        [[6, 7, 5, 8], [2, 1, 3, 4], [12, 9, 11, 10]],
        [[-2, -3, 2, 0], [-4, -5, 1, -1], [-1, -1, -1, -1]],
        [[0, -1, 2, 1], [-4, -3, -2, -1], [-1, -2, -3, -4]],
    ]
    boxes = [[0.0, 0, 2, 1], [1, 0, 3, 1], [0, 0, 3, 1], [0, 0, 1, 2], [2, 0, 3, 2]]
    output = [[3.0, 6, 1, 2], [4, 7, 1, 1], [4, 6, -1, 1], [2, 12, -1, -1], [4, 11, -1, 1]]
    actual = border_align(torch.tensor([input]), torch.tensor([boxes]), 2)
    torch.testing.assert_close(actual, torch.tensor([[output]]))


def test_deform_conv():
    layer = DeformConv2dPack(1, 1, kernel_size=2)
    offset_weight = [
        *([0.1, 0.4, 0.6, 0.1], [0.3, 0.2, 0.1, 0.3], [0.5, 0.5, 0.2, 0.8], [0.8, 0.3, 0.9, 0.1]),
        *([0.3, 0.1, 0.2, 0.5], [0.3, 0.7, 0.5, 0.3], [0.6, 0.2, 0.5, 0.3], [0.4, 0.1, 0.8, 0.4]),
    ]
    layer.conv_offset.weight.data = torch.tensor(offset_weight).view(8, 1, 2, 2)
    layer.conv_offset.bias.data = torch.tensor([0.7, 0.1, 0.8, 0.5, 0.6, 0.5, 0.4, 0.7])
    layer.weight.data = torch.tensor([[[[0.4, 0.2], [0.1, 0.9]]]])
    assert_published(
        layer,
        [[[[1.0, 2, 3], [0, 1, 2], [3, 5, 2]]]],
        [[[[1.65, 0], [0, 0]]]],
        [[[[-0.666, 0.204, 0], [0.03, -0.416, 0.012], [0, 0.252, 0.129]]]],
    )
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[[[3.62, 0], [0.4, 0.18]]]]))
    torch.testing.assert_close(
        layer.conv_offset.bias.grad,
        torch.tensor([1.44, -0.72, 0, 0, -0.1, -0.08, -0.54, -0.54]),
        rtol=1e-3,
        atol=1e-5,
    )


def test_modulated_deform_conv():
    layer = ModulatedDeformConv2dPack(1, 1, kernel_size=2, padding=1, bias=False)
    layer.weight.data.fill_(1.0)
    assert_published(
        layer,
        [[[[1.0, 2, 3], [1, 2, 3], [1, 2, 3]]]],
        [[[[0.5, 1.5, 2.5, 1.5], [1, 3, 5, 3], [1, 3, 5, 3], [0.5, 1.5, 2.5, 1.5]]]],
        [[[[2.0, 2, 2], [2, 2, 2], [2, 2, 2]]]],
    )
    assert layer.weight.grad.flatten().tolist() == [9, 9, 9, 9]
    torch.testing.assert_close(
        layer.conv_offset.bias.grad, torch.tensor([-3, -1.5] * 4 + [4.5] * 4)
    )


def test_focal_losses():
    logits, target = [[1.0, 0, -1], [0, 1, 2]], torch.tensor([2, 1])
    settings = (target, 2.0, 0.25, None, "mean")
    gradient = [[0.10165970, 0.03739851, -0.13905823], [0.01227554, -0.10298023, 0.09070466]]
    assert_published(lambda x: softmax_focal_loss(x, *settings), logits, 0.34956908, gradient)
    gradient = [[0.28808805, 0.11185755, -0.09602935], [0.11185755, -0.00657264, 0.40376765]]
    assert_published(lambda x: sigmoid_focal_loss(x, *settings), logits, 1.10251057, gradient)
