"""RoIAlign (He et al. 2017, section 3): pooling of samples inside regions of interest.

RoIs are rows (batch index, x1, y1, x2, y2) in pixels of the image; `spatial_scale` takes pixels to
cells of the feature map. RoIs may have another dtype than the features.
"""

import torch
import torchvision  # noqa: F401  (registers the kernels torch.ops.torchvision.*)
from torch import Tensor

from xcit_dense.mmcv_ops.precision import to_kernel_precision
from xcit_dense.mmcv_ops.roi_align_max import differentiate_max, max_of_samples

_MAX_POOLING = 0  # mmcv's code for pool_mode='max'; 1 is 'avg'


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign with average or max pooling.

    Args:
        input: (B, C, H, W).
        rois: (R, 5).
        output: (R, C, aligned_height, aligned_width), overwritten; 0 for a RoI of no extent.
        argmax_y: shape of `output` for max pooling, overwritten: the number along y of the sample
            that is the largest, -1 for none. mmcv keeps its position there, which half precision
            rounds. Unused for average pooling.
        argmax_x: the same along x.
        aligned_height: rows of the output.
        aligned_width: columns of the output.
        spatial_scale: cells a pixel.
        sampling_ratio: samples a bin and direction; 0 takes one a cell.
        pool_mode: 0 (max) or 1 (average).
        aligned: shift by half a cell, and allow RoIs smaller than a cell.
    """
    features, rois = to_kernel_precision(input, rois)
    if pool_mode == _MAX_POOLING:
        bins = (aligned_height, aligned_width)
        maxima, best_row, best_column = max_of_samples(
            features, rois, spatial_scale, bins, sampling_ratio, aligned
        )
        output.copy_(maxima)
        argmax_y.copy_(best_row)
        argmax_x.copy_(best_column)
        return
    pooled = torch.ops.torchvision.roi_align(
        features, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of `roi_align_forward` with respect to its input.

    Args:
        grad_output: (R, C, aligned_height, aligned_width).
        grad_input: (B, C, H, W), overwritten.
        argmax_y, argmax_x: as the forward filled them.
        rois, aligned_height, aligned_width, spatial_scale, sampling_ratio, pool_mode, aligned: as
            in the forward.
    """
    grad, rois = to_kernel_precision(grad_output, rois)
    if pool_mode == _MAX_POOLING:
        grad_features = differentiate_max(
            grad,
            argmax_y,
            argmax_x,
            rois,
            grad_input.shape,
            spatial_scale,
            sampling_ratio,
            aligned,
        )
        grad_input.copy_(grad_features)
        return
    grad_features = torch.ops.torchvision._roi_align_backward(
        grad,
        rois,
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(grad_features)
