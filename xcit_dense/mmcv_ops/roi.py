"""RoIAlign (He et al. 2017, section 3), its deformable form and RoIPool (Girshick 2015).

RoIs are rows (batch index, x1, y1, x2, y2) in pixels of the image; they may have another dtype than
the features. Shapes, with R RoIs:
    input (B, C, H, W), rois (R, 5), output (R, C, bins down, bins across).
Settings that the ops share:
    aligned_height or pooled_height, and the width: bins down and across.
    spatial_scale: cells of the feature map a pixel.
    sampling_ratio: samples a bin and direction; 0 takes one a cell.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
import torchvision  # noqa: F401  (registers the kernels torch.ops.torchvision.*)
from torch import Tensor

from xcit_dense.mmcv_ops.shared import (
    bilinear_samples,
    gradient_of_samples,
    gradients_by_recomputing,
    to_kernel_precision,
)

_MAX_POOLING = 0  # mmcv's code for pool_mode='max'; 1 is 'avg'
_SAMPLES_AT_ONCE = 2**17  # of a map; 134 MB where it has 256 channels


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
    """RoIAlign: torchvision's average, or the largest, of each bin's samples; 0 where it has none.

    Args:
        argmax_y, argmax_x: shape of `output` for max pooling: the numbers, in the bin,
            of the row and the column of the largest sample. mmcv keeps its position there, which
            half precision rounds. Unused for average pooling.
        pool_mode: 0 (max) or 1 (average).
        aligned: shift by half a cell, and allow RoIs smaller than a cell.
    """
    features, rois = to_kernel_precision(input, rois)
    size = (aligned_height, aligned_width)
    if pool_mode != _MAX_POOLING:
        pooled = torch.ops.torchvision.roi_align(
            features, rois, spatial_scale, *size, sampling_ratio, aligned
        )
        output.copy_(pooled)
        return

    bins = _divide(rois, spatial_scale, size, sampling_ratio, aligned)
    for members, samples in _samples(features, rois, bins):
        maxima, best = samples.max(dim=2)
        across = bins.samples[members, 1:]
        output[members] = maxima.to(output.dtype)
        argmax_y[members] = (best // across).to(argmax_y.dtype)
        argmax_x[members] = (best % across).to(argmax_x.dtype)


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
    """Gradient of `roi_align_forward` with respect to its input; the argmax as filled there."""
    grad, rois = to_kernel_precision(grad_output, rois)
    size = (aligned_height, aligned_width)
    if pool_mode != _MAX_POOLING:
        grad_features = torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
        )
        grad_input.copy_(grad_features)
        return

    bins = _divide(rois, spatial_scale, size, sampling_ratio, aligned)
    grad = grad * (bins.samples > 0).all(dim=1, keepdim=True)
    for image in rois[:, 0].unique().long().tolist():
        members = (rois[:, 0] == image).nonzero().squeeze(1)
        best = torch.stack((argmax_y[members], argmax_x[members]), dim=1)
        y, x = bins.subset(members).positions(best).transpose(0, 2).unbind(1)
        grad_maps = gradient_of_samples(grad[members].transpose(0, 1), y, x, grad_input.shape[2:])
        grad_input[image] = grad_maps.to(grad_input.dtype)


def deform_roi_pool_forward(
    input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, **settings: float
) -> None:
    """RoIAlign whose bins may move (Dai et al. 2017, section 2.2).

    Args:
        offset: (R, 2, bins down, bins across), how far each bin moves in x and in y, or empty.
        **settings: pooled_height, pooled_width, spatial_scale, sampling_ratio, see the module; and
            gamma: an offset of 1 moves a bin by this part of the RoI's width or height.
    """
    output.copy_(_deform_roi_pool(*to_kernel_precision(input, offset, rois), **settings))


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
    grad, rois, *operands = to_kernel_precision(grad_output, rois, input, offset)
    gradients = gradients_by_recomputing(
        partial(_deform_roi_pool, rois=rois, **settings), operands, grad
    )
    for whole, gradient in zip((grad_input, grad_offset), gradients, strict=True):
        whole.copy_(gradient)


def _deform_roi_pool(
    features: Tensor,
    offset: Tensor,
    rois: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    size = (pooled_height, pooled_width)
    bins = _divide(rois, spatial_scale, size, sampling_ratio, aligned=True)
    if offset.numel():
        extent = bins.size * bins.size.new_tensor(size).view(2, 1, 1)
        bins = bins._replace(start=bins.start + gamma * extent * offset.flip(1))

    pooled = features.new_zeros(len(rois), features.shape[1], *size)
    for members, samples in _samples(features, rois, bins):
        pooled = pooled.index_copy(0, members, samples.mean(dim=2))
    return pooled


class _Bins(NamedTuple):
    """Bins of R RoIs, as RoIAlign divides them, in cells; y before x.

    Args:
        start: (R, 2, bins down, bins across), where each bin begins.
        size: (R, 2, 1, 1), of the bins of a RoI.
        samples: (R, 2, 1, 1) int64, how many a bin has down and across.
    """

    start: Tensor
    size: Tensor
    samples: Tensor

    def subset(self, members: Tensor) -> "_Bins":
        """The bins of the RoIs with these indices."""
        return _Bins(*(tensor[members] for tensor in self))

    def positions(self, number: Tensor) -> Tensor:
        """Where samples (R, 2, S, bins down, bins across) of these numbers in their bins are."""
        step = self.size / self.samples.clamp(min=1)
        return self.start[:, :, None] + (number.to(step.dtype) + 0.5) * step[:, :, None]


def _divide(
    rois: Tensor, spatial_scale: float, bins: tuple[int, int], sampling_ratio: int, aligned: bool
) -> _Bins:
    """Divides RoIs (R, 5) into bins (down, across), and bins into samples; see RoIAlign."""
    corners = rois[:, [2, 1, 4, 3], None, None] * spatial_scale - (0.5 if aligned else 0.0)
    start, end = corners.split(2, dim=1)
    extent = end - start if aligned else (end - start).clamp(min=1)
    numbers = [torch.arange(count, device=rois.device) for count in bins]
    size = extent / extent.new_tensor(bins).view(2, 1, 1)
    samples = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else size.ceil()
    start = start + torch.stack(torch.meshgrid(*numbers, indexing="ij")) * size
    return _Bins(start, size, samples.clamp(min=0).long())


def _samples(features: Tensor, rois: Tensor, bins: _Bins) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples all bins, in portions that bound the memory, of RoIs alike in image and samples.

    Yields:
        The indices (r,) of the RoIs, and the samples (r, C, S, bins down, bins across), row by row
        in each bin. RoIs without samples are left out.
    """
    maps = features[:, None].unbind()
    keys = torch.cat((rois[:, :1].long(), bins.samples.flatten(1)), dim=1)
    kinds, kind = keys.unique(dim=0, return_inverse=True)
    for which, (image, down, across) in enumerate(kinds.tolist()):
        in_a_roi = bins.start[0, 0].numel() * down * across
        if in_a_roi == 0:
            continue
        number = torch.arange(down * across, device=rois.device)
        numbers = torch.stack((number // across, number % across))[:, :, None, None]
        members = (kind == which).nonzero().squeeze(1)
        for portion in members.split(max(_SAMPLES_AT_ONCE // in_a_roi, 1)):
            y, x = bins.subset(portion).positions(numbers)[None].unbind(2)
            yield portion, bilinear_samples(maps[image], y, x)[0].transpose(0, 1)


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
        rois: x2 and y2 are the last pixels inside.
        argmax: int32, shape of `output`: y * W + x of each maximum. It is -1 where a
            bin has no cells, also for a RoI of no extent, where mmcv leaves 0 and lets the gradient
            flow to cell (0, 0).
    """
    features, rois = to_kernel_precision(input, rois)
    height, width = features.shape[-2:]
    image, x1, y1, x2, y2 = rois.unbind(1)
    top, bottom = _bounds_of_bins(y1, y2, spatial_scale, pooled_height, height)
    left, right = _bounds_of_bins(x1, x2, spatial_scale, pooled_width, width)
    axes = (
        image[:, None, None],
        left[:, None, :],
        top[:, :, None],
        right[:, None, :] - 1,
        bottom[:, :, None] - 1,
    )
    bins = torch.stack(torch.broadcast_tensors(*axes), dim=-1)
    # torchvision takes a bin without cells for one of a cell: beyond the far corner it finds none.
    empty = (bins[..., 3:] < bins[..., 1:3]).any(-1, keepdim=True)
    outside = bins.new_tensor([width, height, width, height])
    bins[..., 1:] = torch.where(empty, outside, bins[..., 1:])

    pooled = torch.ops.torchvision.roi_pool(features, bins.flatten(0, 2), 1.0, 1, 1)
    for whole, flat in zip((output, argmax), pooled, strict=True):
        whole.copy_(flat.view(*bins.shape[:3], features.shape[1]).permute(0, 3, 1, 2))


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of `roi_pool_forward` with respect to its input; `argmax` as filled there."""
    grad, rois = to_kernel_precision(grad_output, rois)
    grad_features = torch.ops.torchvision._roi_pool_backward(
        grad, rois, argmax, spatial_scale, pooled_height, pooled_width, *grad_input.shape
    )
    grad_input.copy_(grad_features)


def _bounds_of_bins(
    first: Tensor, last: Tensor, spatial_scale: float, bins: int, size: int
) -> tuple[Tensor, Tensor]:
    """First and end cells (exclusive), (R, bins) each, of bins along an axis of `size` cells.

    The bounds are those of mmcv's CUDA kernel; a RoI of no extent gets none.

    Args:
        first, last: (R,) pixels inside.
    """
    begin = (first * spatial_scale)[:, None]
    extent = ((last + 1) * spatial_scale)[:, None] - begin
    step = extent / bins
    index = torch.arange(bins, device=first.device)
    start = (index * step + begin).floor().clamp(0, size)
    end = ((index + 1) * step + begin).ceil().clamp(0, size)
    return start, torch.where(extent > 0, end, start)
