"""RoIPool (Girshick 2015, section 2.1), max pooling over regions of interest.

RoIs are rows (batch index, x1, y1, x2, y2) in pixels of the image; `spatial_scale` takes pixels to
cells of the feature map. RoIs may have another dtype than the features.
"""

import torch
import torchvision  # noqa: F401  (registers the kernels torch.ops.torchvision.*)
from torch import Tensor

from xcit_dense.mmcv_ops.precision import to_kernel_precision


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool: the maximum of each bin of each RoI; 0 for a bin without cells.

    torchvision rounds a RoI to whole cells before it divides it into bins; mmcv divides first. So
    mmcv's bins are computed here, and torchvision's kernel pools each bin as a RoI of its own.

    Args:
        input: (B, C, H, W).
        rois: (R, 5); x2 and y2 are the last pixels inside.
        output: (R, C, pooled_height, pooled_width), overwritten.
        argmax: int32, shape of `output`, overwritten: y * W + x of each maximum. It is -1 where a
            bin has no cells, also for a RoI of no extent, where mmcv leaves 0 and lets the gradient
            flow to cell (0, 0).
        pooled_height: rows of the output.
        pooled_width: columns of the output.
        spatial_scale: cells a pixel.
    """
    features, rois = to_kernel_precision(input, rois)
    height, width = features.shape[-2:]
    bins = _bins_as_rois(rois, height, width, pooled_height, pooled_width, spatial_scale)
    maxima, positions = torch.ops.torchvision.roi_pool(features, bins.flatten(0, 2), 1.0, 1, 1)

    def as_maps(flat: Tensor) -> Tensor:
        return flat.view(*bins.shape[:3], features.shape[1]).permute(0, 3, 1, 2)

    output.copy_(as_maps(maxima))
    argmax.copy_(as_maps(positions))


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of `roi_pool_forward` with respect to its input.

    Args:
        grad_output: (R, C, pooled_height, pooled_width).
        argmax: as the forward filled it.
        grad_input: (B, C, H, W), overwritten.
        rois, pooled_height, pooled_width, spatial_scale: as in the forward.
    """
    grad, rois = to_kernel_precision(grad_output, rois)
    grad_features = torch.ops.torchvision._roi_pool_backward(
        grad, rois, argmax, spatial_scale, pooled_height, pooled_width, *grad_input.shape
    )
    grad_input.copy_(grad_features)


def _bins_as_rois(
    rois: Tensor,
    height: int,
    width: int,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> Tensor:
    """Divides RoIs (R, 5) into bins (R, pooled_height, pooled_width, 5), themselves RoIs in cells.

    The bounds are those of mmcv's CUDA kernel. A bin without cells is put beyond the map's far
    corner, where torchvision's kernel finds nothing, as it should.
    """
    batch_index, x1, y1, x2, y2 = rois.unbind(1)
    left, right, has_width = _bin_bounds(x1, x2, spatial_scale, pooled_width, width)
    top, bottom, has_height = _bin_bounds(y1, y2, spatial_scale, pooled_height, height)
    has_cells = has_height[:, :, None] & has_width[:, None, :]
    corners = (
        torch.where(has_cells, left[:, None, :], width),
        torch.where(has_cells, top[:, :, None], height),
        torch.where(has_cells, right[:, None, :] - 1, width),
        torch.where(has_cells, bottom[:, :, None] - 1, height),
    )
    return torch.stack((batch_index[:, None, None].expand_as(has_cells), *corners), dim=-1)


def _bin_bounds(
    start: Tensor, last: Tensor, spatial_scale: float, bins: int, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds of the bins along one axis of a map of `size` cells.

    Args:
        start: (R,) first pixel inside.
        last: (R,) last pixel inside.
        spatial_scale: cells a pixel.
        bins: number of bins.
        size: number of cells.

    Returns:
        First cell, end cell (exclusive) and whether there is a cell between, each (R, bins).
    """
    begin = (start * spatial_scale)[:, None]
    extent = ((last + 1) * spatial_scale)[:, None] - begin
    step = extent / bins
    index = torch.arange(bins, device=start.device)
    first = (index * step + begin).floor().clamp(0, size)
    end = ((index + 1) * step + begin).ceil().clamp(0, size)
    return first, end, (end > first) & (extent > 0)
