"""Deformable RoI pooling (Dai et al. 2017, section 2.2): RoIAlign whose bins may move.

Shapes, with R RoIs:
    input (B, C, H, W), rois (R, 5) rows (batch index, x1, y1, x2, y2) in pixels of the image,
    offset (R, 2, bins down, bins across): how far each bin moves in x and in y, or empty,
    output (R, C, bins down, bins across).
mmcv passes its settings by name; they are those of `_pool`.
"""

from torch import Tensor

from xcit_dense.mmcv_ops.roi import divide_rois, grids_of_samples, sample_bins
from xcit_dense.mmcv_ops.shared import gradients_by_recomputing, to_kernel_precision


def deform_roi_pool_forward(
    input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, **settings: float
) -> None:
    """Averages the samples of each bin; 0 for a RoI of no extent."""
    output.copy_(_pool(*to_kernel_precision(input, offset, rois), **settings))


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    **settings: float,
) -> None:
    """Gradients of `deform_roi_pool_forward`.

    The gradient of the offsets is the true one also in the last row and column of the map and in
    the cell around it, where that of mmcv's kernel is not.
    """
    features, offset, rois, grad = to_kernel_precision(input, offset, rois, grad_output)
    grad_features, grad_moves = gradients_by_recomputing(
        lambda features, offset: _pool(features, offset, rois, **settings), (features, offset), grad
    )
    grad_input.copy_(grad_features)
    grad_offset.copy_(grad_moves)


def _pool(
    features: Tensor,
    offset: Tensor,
    rois: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    """Pools features (B, C, H, W) to (R, C, pooled_height, pooled_width).

    Args:
        features, offset, rois: see the module's shapes; one floating-point dtype.
        pooled_height, pooled_width: bins down and across.
        spatial_scale: cells a pixel.
        sampling_ratio: samples a bin and direction; 0 takes one a cell.
        gamma: an offset of 1 moves a bin by this part of the RoI's width or height.
    """
    bins = divide_rois(
        rois, spatial_scale, (pooled_height, pooled_width), sampling_ratio, aligned=True
    )
    if offset.numel():
        extent = bins.size * bins.size.new_tensor([pooled_height, pooled_width]).view(2, 1, 1)
        bins = bins._replace(start=bins.start + gamma * extent * offset.flip(1))

    maps = features.unbind()
    pooled = features.new_zeros(len(rois), features.shape[1], pooled_height, pooled_width)
    for image, members, numbers in grids_of_samples(rois, bins):
        means = sample_bins(maps[image], bins.subset(members), numbers).mean(dim=2)
        pooled = pooled.index_copy(0, members, means.transpose(0, 1))
    return pooled
