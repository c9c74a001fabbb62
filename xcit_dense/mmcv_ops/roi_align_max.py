"""RoIAlign with max pooling, which torchvision's kernel does not have.

Shapes: features (B, C, H, W), RoIs (R, 5), pooled maps (R, C, bins down, bins across).
"""

import torch
from torch import Tensor

from xcit_dense.mmcv_ops.bilinear import sample
from xcit_dense.mmcv_ops.gradients import gradients_by_recomputing
from xcit_dense.mmcv_ops.roi_samples import (
    divide,
    groups_of_equal_grids,
    sample_bins,
)

_NO_SAMPLE = -1


def max_of_samples(
    features: Tensor,
    rois: Tensor,
    spatial_scale: float,
    bins: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest sample of each bin; 0 for a RoI of no extent, which has none.

    Args:
        features, rois: see the module's shapes; one floating-point dtype.
        spatial_scale: cells a pixel.
        bins: bins down and across.
        sampling_ratio: samples a bin and direction; 0 takes one a cell.
        aligned: shift by half a cell, and allow RoIs smaller than a cell.

    Returns:
        The maxima, and the numbers along y and along x of the samples that have them (-1: no
        sample), all (R, C, bins down, bins across).
    """
    rows, columns = divide(rois, spatial_scale, bins, sampling_ratio, aligned)
    pooled = features.new_zeros(len(rois), features.shape[1], *bins)
    best_row, best_column = (torch.full_like(pooled, _NO_SAMPLE, dtype=torch.long) for _ in "yx")
    for group in groups_of_equal_grids(rois, rows, columns):
        samples = sample_bins(features[group.image], *group.positions())
        pooled[group.members], best = samples.max(dim=2)
        best_row[group.members], best_column[group.members] = group.row_and_column(best)
    return pooled, best_row, best_column


def differentiate_max(
    grad_pooled: Tensor,
    best_row: Tensor,
    best_column: Tensor,
    rois: Tensor,
    feature_size: torch.Size,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Gradient (B, C, H, W) of `max_of_samples` with respect to the features.

    Args:
        grad_pooled: (R, C, bins down, bins across).
        best_row, best_column: as `max_of_samples` returned them, in any dtype.
        feature_size: B, C, H, W.
        rois, spatial_scale, sampling_ratio, aligned: as in `max_of_samples`.
    """
    rows, columns = divide(rois, spatial_scale, grad_pooled.shape[2:], sampling_ratio, aligned)
    best_row, best_column = best_row.to(rois.dtype), best_column.to(rois.dtype)
    grad_pooled = grad_pooled.masked_fill(best_row == _NO_SAMPLE, 0.0)
    grad_features = grad_pooled.new_zeros(feature_size)
    for image in rois[:, 0].unique().long().tolist():
        members = (rois[:, 0] == image).nonzero().squeeze(1)
        y = rows.subset(members).position(best_row[members])
        x = columns.subset(members).position(best_column[members])
        grad_features[image] = _gradient_of_samples(grad_pooled[members], y, x, feature_size[2:])
    return grad_features


def _gradient_of_samples(grad: Tensor, y: Tensor, x: Tensor, size: torch.Size) -> Tensor:
    """Gradient (C, H, W) of one sample a channel and bin.

    Args:
        grad, y, x: (r, C, bins down, bins across).
        size: H, W.
    """
    # Each channel is sampled elsewhere, so it is taken as a map of its own. Samples are linear in
    # the map: its values do not matter.
    channels = grad.new_zeros(grad.shape[1], 1, *size)
    y, x, grad = (tensor.transpose(0, 1) for tensor in (y, x, grad))
    (grad_channels,) = gradients_by_recomputing(
        lambda maps: sample(maps, y, x), (channels,), grad[:, None]
    )
    return grad_channels.squeeze(1)
