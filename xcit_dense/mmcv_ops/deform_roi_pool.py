"""Deformable RoI pooling (Dai et al. 2017, section 2.2): RoIAlign whose bins may move.

RoIs are rows (batch index, x1, y1, x2, y2) in pixels of the image. Shapes, with R RoIs:
    input (B, C, H, W), rois (R, 5), output (R, C, pooled_height, pooled_width),
    offset (R, 2, pooled_height, pooled_width): how far each bin moves in x and in y, or empty.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from xcit_dense.mmcv_ops.gradients import gradients_by_recomputing
from xcit_dense.mmcv_ops.precision import to_kernel_precision
from xcit_dense.mmcv_ops.roi_samples import divide, groups_of_equal_grids, sample_bins


class _Settings(NamedTuple):
    bins: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    gamma: float


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Averages the samples of each bin.

    Args:
        input, rois, offset: see the module's shapes.
        output: (R, C, pooled_height, pooled_width), overwritten; 0 for a RoI of no extent.
        pooled_height, pooled_width: bins down and across.
        spatial_scale: cells a pixel.
        sampling_ratio: samples a bin and direction; 0 takes one a cell.
        gamma: an offset of 1 moves a bin by this part of the RoI's width or height.
    """
    features, rois, offset = to_kernel_precision(input, rois, offset)
    settings = _Settings((pooled_height, pooled_width), spatial_scale, sampling_ratio, gamma)
    output.copy_(_pool(features, offset, rois, settings))


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Gradients of `deform_roi_pool_forward`.

    The gradient of the offsets is the true one also in the last row and column of the map and in
    the cell around it, where that of mmcv's kernel is not.

    Args:
        grad_output: (R, C, pooled_height, pooled_width).
        grad_input: shape of `input`, overwritten.
        grad_offset: shape of `offset`, overwritten.
        input and the rest: as in the forward.
    """
    features, rois, offset, grad = to_kernel_precision(input, rois, offset, grad_output)
    settings = _Settings((pooled_height, pooled_width), spatial_scale, sampling_ratio, gamma)
    grad_features, grad_shift = gradients_by_recomputing(
        lambda features, offset: _pool(features, offset, rois, settings), (features, offset), grad
    )
    grad_input.copy_(grad_features)
    grad_offset.copy_(grad_shift)


def _pool(features: Tensor, offset: Tensor, rois: Tensor, settings: _Settings) -> Tensor:
    """Pools (B, C, H, W) to (R, C, bins down, bins across)."""
    rows, columns = divide(
        rois, settings.spatial_scale, settings.bins, settings.sampling_ratio, aligned=True
    )
    if offset.numel():
        shift_x = settings.gamma * columns.extent * offset[:, :1]
        shift_y = settings.gamma * rows.extent * offset[:, 1:]
    else:
        shift_x = shift_y = torch.zeros_like(rows.start)

    maps = features.unbind()
    pooled = features.new_zeros(len(rois), features.shape[1], *settings.bins)
    for group in groups_of_equal_grids(rois, rows, columns):
        y, x = group.positions()
        moved = y + shift_y[group.members], x + shift_x[group.members]
        means = sample_bins(maps[group.image], *moved).mean(dim=2)
        pooled = pooled.index_copy(0, group.members, means)
    return pooled
