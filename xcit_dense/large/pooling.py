"""The pooling pyramid of UPerHead on a map that is read by rows."""

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.psp_head import PPM
from torch import Tensor, nn

from xcit_dense.engine.context import Axis
from xcit_dense.engine.weights import expect
from xcit_dense.large.maps import Convolved, FeatureMap, OfTensor, Reader, resized


def pooled_maps(
    pyramid: nn.Module, source: FeatureMap, align_corners: bool, window: int | None
) -> list[FeatureMap]:
    """What the pooling pyramid adds to a map, each in the size of the map.

    Args:
        pyramid: mmseg's PPM.
        source: the map.
        align_corners: how the pooled maps are resized.
        window: side of what is pooled around each place; None for the whole map, which is read for
            that to its end.

    Raises:
        NotAsBuilt: the pyramid is not what it was built as.
    """
    expect(pyramid, PPM)
    for branch in pyramid:
        expect(branch, nn.Sequential)
        expect(branch[0], nn.AdaptiveAvgPool2d)
    if window is not None:
        return [PooledByWindows(branch, source, align_corners, window) for branch in pyramid]
    pooled = _pool(source, [branch[0].output_size for branch in pyramid])
    return [
        resized(Convolved(branch[1], OfTensor(each)), source.size, align_corners)
        for branch, each in zip(pyramid, pooled, strict=True)
    ]


def _pool(source: FeatureMap, sides: list[int]) -> list[Tensor]:
    """``F.adaptive_avg_pool2d`` of a map to each of these numbers of places a side."""
    reader, sums = Reader(source), {}
    for first in range(0, source.height, source.rows_at_once):
        rows = reader.read(first, min(first + source.rows_at_once, source.height))
        for side in sides:
            for place, (top, bottom) in enumerate(_bins(source.height, side)):
                part = rows[0, :, max(top - first, 0) : max(bottom - first, 0)]
                sums[side, place] = sums.get((side, place), 0) + part.sum(1, dtype=torch.float64)
    pooled = []
    for side in sides:
        means = [
            sums[side, place] / (bottom - top)
            for place, (top, bottom) in enumerate(_bins(source.height, side))
        ]
        by_columns = F.adaptive_avg_pool2d(torch.stack(means, dim=1)[None], side)
        pooled.append(by_columns.to(rows.dtype))
    return pooled


def _bins(length: int, count: int) -> list[tuple[int, int]]:
    """What each of some places is the mean of: first and last, without the last."""
    return [(at * length // count, -(-(at + 1) * length // count)) for at in range(count)]


class PooledByWindows(FeatureMap):
    """What a branch of the pyramid makes of windows, each by itself, blended by nearness.

    They are windows as those of attention: two by two cells, one every cell.

    Args:
        branch: pooling and convolution of single places.
        source: the map.
        align_corners: how pooled windows are resized.
        window: side of a window, in places of the map.
    """

    def __init__(
        self, branch: nn.Module, source: FeatureMap, align_corners: bool, window: int
    ) -> None:
        self._pool, self._module = branch
        super().__init__(self._module.out_channels, source.size, source.channels)
        self._reader, self._align_corners = Reader(source), align_corners
        self._rows, self._columns = (Axis(length, window) for length in source.size)
        self._pooled: dict[int, Tensor] = {}  # rows of windows

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        size, total = self._rows.size, 0
        for index in range(self._rows.windows):
            start, stop = index * size, min((index + 2) * size, self.height)
            top, bottom = max(first, start), min(last, stop)
            if stop <= first:
                self._pooled.pop(index, None)
            elif top < bottom:
                if index not in self._pooled:
                    self._pooled[index] = self._row_of_windows(start, stop)
                pooled = self._pooled[index]
                near = _nearness(self._rows, index, self.height).to(pooled)[top - start :]
                part = pooled[:, :, top - start : bottom - start] * near[: bottom - top, None]
                total = total + F.pad(part, (0, 0, top - first, last - bottom))
        return total

    def _row_of_windows(self, start: int, stop: int) -> Tensor:
        """The windows of these rows, blended beside each other: (1, C, rows, width)."""
        rows = self._reader.read(start, stop)
        size, side = self._columns.size, self._pool.output_size
        starts = [index * size for index in range(self._columns.windows)]
        parts = [rows[..., left : left + 2 * size] for left in starts]
        pooled = torch.cat([self._pool(part) for part in parts], dim=3)
        places = Reader(Convolved(self._module, OfTensor(pooled))).read(0, side)
        blended = rows.new_zeros(1, self.channels, stop - start, self.width)
        for index, (left, of_window) in enumerate(zip(starts, places.split(side, 3), strict=True)):
            shape = parts[index].shape[2:]
            large = F.interpolate(of_window, shape, None, "bilinear", self._align_corners)
            near = _nearness(self._columns, index, self.width).to(rows)
            blended[..., left : left + shape[1]] += large * near
        return blended


def _nearness(axis: Axis, window: int, length: int) -> Tensor:
    """How much a window counts at its places, (places,)."""
    weights = []
    for cell in range(window, min(window + 2, axis.count)):
        near = axis.nearness(0, min(axis.size, length - cell * axis.size))
        before, behind = axis.around(cell)
        weights.append((1 - near) * (before == window) + near * (behind == window))
    return torch.cat(weights)
