"""The samples that RoIAlign (He et al. 2017, section 3) takes inside regions of interest.

A RoI is divided into bins, and a bin has a grid of samples. RoIs are taken in groups that share the
image and the size of that grid.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from xcit_dense.mmcv_ops.bilinear import sample

_POSITIONS_AT_ONCE = 2**17  # 134 MB of samples where the map has 256 channels


class RoiAxis(NamedTuple):
    """R RoIs along one axis of the feature map, in cells.

    Args:
        start: (R, 1, 1, 1), where each RoI begins.
        bin_size: (R, 1, 1, 1).
        samples: (R, 1, 1, 1) int64, samples of a bin along this axis.
        bins: numbers of the bins, (bins, 1) down or (bins,) across.
    """

    start: Tensor
    bin_size: Tensor
    samples: Tensor
    bins: Tensor

    @property
    def extent(self) -> Tensor:
        """Sizes (R, 1, 1, 1) of the RoIs in cells."""
        return self.bin_size * self.bins.numel()

    def position(self, number: int | Tensor) -> Tensor:
        """Where sample `number` of each bin is; broadcasts to (R, ..., bins down, bins across)."""
        fraction = (number + 0.5) / self.samples.clamp(min=1).to(self.start.dtype)
        return self.start + (self.bins + fraction) * self.bin_size

    def subset(self, members: Tensor) -> "RoiAxis":
        """The RoIs with these indices."""
        return RoiAxis(
            self.start[members], self.bin_size[members], self.samples[members], self.bins
        )


class RoiGroup(NamedTuple):
    """RoIs of one image whose bins have equally many samples.

    Args:
        image: number of the image.
        members: (r,) indices of the RoIs.
        rows, columns: the RoIs along y and x.
        samples_down, samples_across: samples of a bin along y and x.
    """

    image: int
    members: Tensor
    rows: RoiAxis
    columns: RoiAxis
    samples_down: int
    samples_across: int

    def positions(self) -> tuple[Tensor, Tensor]:
        """Where all S samples are: y (r, S, bins down, 1) and x (r, S, 1, bins across)."""
        number = torch.arange(self.samples_down * self.samples_across, device=self.members.device)
        row, column = self.row_and_column(number[:, None, None])
        return self.rows.position(row), self.columns.position(column)

    def row_and_column(self, number: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers along y and x of samples that are counted row by row."""
        return number // self.samples_across, number % self.samples_across


def divide(
    rois: Tensor,
    spatial_scale: float,
    bins: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> tuple[RoiAxis, RoiAxis]:
    """Divides RoIs into bins and samples.

    Args:
        rois: (R, 5) rows (batch index, x1, y1, x2, y2) in pixels.
        spatial_scale: cells a pixel.
        bins: bins down and across.
        sampling_ratio: samples a bin and direction; 0 takes one a cell.
        aligned: shift by half a cell, and allow RoIs smaller than a cell.

    Returns:
        The RoIs along y and along x.
    """
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    left, top, right, bottom = corners[..., None, None, None].unbind(1)

    def axis(start: Tensor, end: Tensor, numbers: Tensor) -> RoiAxis:
        size = end - start if aligned else (end - start).clamp(min=1)
        bin_size = size / len(numbers)
        samples = torch.full_like(bin_size, sampling_ratio) if sampling_ratio else bin_size.ceil()
        return RoiAxis(start, bin_size, samples.clamp(min=0).long(), numbers)

    down, across = (torch.arange(count, device=rois.device) for count in bins)
    return axis(top, bottom, down[:, None]), axis(left, right, across)


def groups_of_equal_grids(rois: Tensor, rows: RoiAxis, columns: RoiAxis) -> Iterator[RoiGroup]:
    """Groups RoIs (R, 5) by image and numbers of samples; leaves out those without samples."""
    keys = torch.stack((rois[:, 0].long(), rows.samples.flatten(), columns.samples.flatten()), 1)
    kinds, kind = keys.unique(dim=0, return_inverse=True)
    bins = rows.bins.numel() * columns.bins.numel()
    for number, (image, down, across) in enumerate(kinds.tolist()):
        if down and across:
            at_once = max(_POSITIONS_AT_ONCE // (bins * down * across), 1)
            for members in (kind == number).nonzero().squeeze(1).split(at_once):
                axes = rows.subset(members), columns.subset(members)
                yield RoiGroup(image, members, *axes, down, across)


def sample_bins(feature_map: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """All samples of all bins.

    Args:
        feature_map: (C, H, W).
        y, x: positions in cells that broadcast to (r, S, bins down, bins across).

    Returns:
        (r, C, S, bins down, bins across).
    """
    y, x = torch.broadcast_tensors(y, x)
    return sample(feature_map[None], y[None], x[None]).squeeze(0).transpose(0, 1)
