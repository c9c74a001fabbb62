"""The pooling pyramid of UPerHead on a map that is read by rows."""

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.psp_head import PPM
from torch import Tensor, nn

from xcit_dense.engine.context import Axis
from xcit_dense.engine.weights import expect
from xcit_dense.large.maps import Convolved, FeatureMap, OfTensor, Reader, resized

_NOTHING = 1e-12  # less than the share of one place


def pooled_maps(
    pyramid: nn.Module,
    source: FeatureMap,
    align_corners: bool,
    window: int | None,
    seen: Tensor | None = None,
) -> list[FeatureMap]:
    """What the pooling pyramid adds to a map, each in the size of the map.

    Args:
        pyramid: mmseg's PPM.
        source: the map.
        align_corners: how the pooled maps are resized.
        window: side of what is pooled around each place; None for the whole map, which is read for
            that to its end.
        seen: bool (rows, columns) of any size, which parts of the map are pooled; None: all.

    Raises:
        NotAsBuilt: the pyramid is not what it was built as.
    """
    expect(pyramid, PPM)
    for branch in pyramid:
        expect(branch, nn.Sequential)
        expect(branch[0], nn.AdaptiveAvgPool2d)
    if seen is not None:  # places of the map, (1, 1, height, width)
        seen = F.adaptive_max_pool2d(seen[None, None].float(), source.size)
        seen = None if seen.all() else seen
    if window is not None:
        how = align_corners, window, seen
        return [PooledByWindows(branch, source, *how) for branch in pyramid]
    pooled = _pool(source, [branch[0].output_size for branch in pyramid], seen)
    return [
        resized(Convolved(branch[1], OfTensor(each)), source.size, align_corners)
        for branch, each in zip(pyramid, pooled, strict=True)
    ]


def _pool(source: FeatureMap, sides: list[int], seen: Tensor | None) -> list[Tensor]:
    """``F.adaptive_avg_pool2d`` of a map to each of these numbers of places a side."""
    reader, sums, every = Reader(source), {}, {*sides} if seen is None else {1, *sides}
    for first in range(0, source.height, source.rows_at_once):
        last = min(first + source.rows_at_once, source.height)
        rows = reader.read(first, last)
        if seen is not None:
            rows = rows * seen[:, :, first:last].to(rows)
        for side in every:
            for place, (top, bottom) in enumerate(_bins(source.height, side)):
                part = rows[0, :, max(top - first, 0) : max(bottom - first, 0)]
                sums[side, place] = sums.get((side, place), 0) + part.sum(1, dtype=torch.float64)
    pooled = {}
    for side in every:
        means = [
            sums[side, place] / (bottom - top)
            for place, (top, bottom) in enumerate(_bins(source.height, side))
        ]
        by_columns = F.adaptive_avg_pool2d(torch.stack(means, dim=1)[None], side)
        pooled[side] = by_columns.to(rows.dtype)
    return [
        pooled[side] if seen is None else _over(seen, pooled[side], pooled[1]) for side in sides
    ]


def _over(seen: Tensor, pooled: Tensor, of_all: Tensor) -> Tensor:
    """Means over the places that are seen.

    Args:
        seen: 1 there, else 0, (1, 1, height, width).
        pooled: means over all, with 0 at the others, (1, C, side, side).
        of_all: likewise with a side of 1; it is taken where nothing is seen.
    """
    share, share_of_all = (
        F.adaptive_avg_pool2d(seen.to(pooled), means.shape[-1]) for means in (pooled, of_all)
    )
    of_all = of_all / share_of_all.clamp_min(_NOTHING)
    return torch.where(share > 0, pooled / share.clamp_min(_NOTHING), of_all)


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
        seen: 1 at places that are pooled, else 0, (1, 1, height, width); None: all are.
    """

    def __init__(
        self,
        branch: nn.Module,
        source: FeatureMap,
        align_corners: bool,
        window: int,
        seen: Tensor | None,
    ) -> None:
        self._pool, self._module = branch
        super().__init__(self._module.out_channels, source.size, source.channels)
        self._reader, self._align_corners = Reader(source), align_corners
        self._rows, self._columns = (Axis(length, window) for length in source.size)
        self._pooled: dict[int, Tensor] = {}  # rows of windows
        self._seen = seen

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
        if self._seen is not None:
            seen = self._seen[:, :, start:stop].to(rows)
            rows = rows * seen
        parts = [rows[..., left : left + 2 * size] for left in starts]
        pooled = [self._pool(part) for part in parts]
        if self._seen is not None:
            pooled = [
                _over(seen[..., left : left + 2 * size], means, F.adaptive_avg_pool2d(part, 1))
                for left, means, part in zip(starts, pooled, parts, strict=True)
            ]
        places = Reader(Convolved(self._module, OfTensor(torch.cat(pooled, 3)))).read(0, side)
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
