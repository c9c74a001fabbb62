"""Features of RoIs from maps that are read downwards once, by rows."""

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from mmcv.ops import RoIAlign
from torch import Tensor, nn

from xcit_dense.large.dense_heads import Maps
from xcit_dense.large.maps import FeatureMap, Reader

# Elements of the rows of a map that RoIs are taken from at once: 256 MB in float32.
_ELEMENTS = 64_000_000
_LOWEST = 16  # rows that are at hand for a RoI, however wide the map is
_ROIS_AT_ONCE = 128  # their masks of 80 classes are 32 MB a stage
_BEYOND = 3  # from the row of the lowest sample on; two are needed, rounding may need one more


def sweep(extractor: nn.Module, maps: Maps, rois: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What a SingleRoIExtractor makes of RoIs, for some of them at a time.

    Args:
        extractor: with RoIAlign that is aligned and averages.
        maps: the levels.
        rois: (n, 5), the first column is not looked at.

    Yields:
        Indices of RoIs (m,) and their features (m, C, output rows, output columns); in the end each
        RoI has come once.
    """
    of_level = extractor.map_roi_levels(rois, extractor.num_inputs)
    for level, layer in enumerate(extractor.roi_layers):
        chosen = (of_level == level).nonzero().flatten()
        if len(chosen):
            for indices, features in _sweep_map(layer, maps()[level], rois[chosen]):
                yield chosen[indices], features


class _Part(NamedTuple):
    """A RoI, or rows of its samples, and the rows of the map that these are taken from."""

    first: int
    last: int
    roi: int
    samples: range | None  # all of them


def _sweep_map(
    layer: RoIAlign, feature_map: FeatureMap, rois: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    rows_at_once = max(_LOWEST, _ELEMENTS // (feature_map.channels * feature_map.width))
    parts, tall = [], {}
    tops, bottoms = (rois[:, [2, 4]] * layer.spatial_scale - 0.5).floor().long().T.tolist()
    for roi, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        if bottom + _BEYOND - (top - 1) <= rows_at_once:
            parts.append(_Part(top - 1, bottom + _BEYOND, roi, None))
        else:
            tall[roi] = _Tall(layer, rois[roi], feature_map.channels)
            parts += [_Part(*part[:2], roi, part[2]) for part in tall[roi].parts(rows_at_once)]
    parts = [
        part._replace(
            first=min(max(part.first, 0), feature_map.height - 1),
            last=min(max(part.last, 1), feature_map.height),
        )
        for part in parts
    ]
    queue = deque(sorted(parts, key=lambda part: part[:2]))
    reader = Reader(feature_map)
    while queue:
        group = [queue.popleft()]
        first, last = group[0][:2]
        while queue and len(group) < _ROIS_AT_ONCE and queue[0].last - first <= rows_at_once:
            group.append(queue.popleft())
            last = max(last, group[-1].last)
        rows = reader.read(first, last).contiguous()
        shift = rois.new_tensor([0, 0, first, 0, first]) / layer.spatial_scale
        whole = [part.roi for part in group if part.samples is None]
        if whole:
            indices = torch.tensor(whole, device=rois.device)
            yield indices, layer(rows, _in_first_image(rois[indices] - shift))
        for part in group:
            if part.samples is not None and tall[part.roi].add(rows, shift, part.samples):
                features = tall.pop(part.roi).features
                yield torch.tensor([part.roi], device=rois.device), features[None]


class _Tall:
    """A RoI that reaches over more rows than are at hand: rows of its samples are added up.

    Args:
        layer: RoIAlign.
        roi: (5,).
        channels: of the map.
    """

    def __init__(self, layer: RoIAlign, roi: Tensor, channels: int) -> None:
        self._layer, self._roi = layer, roi
        width, height = ((roi[3:] - roi[1:3]) * layer.spatial_scale).tolist()
        down, across = layer.output_size
        self._down = layer.sampling_ratio or math.ceil(height / down)  # samples of a bin
        self._across = layer.sampling_ratio or math.ceil(width / across)
        self._missing = down * self._down
        self._step = height / self._missing
        self.features = roi.new_zeros(channels, down, across)

    def parts(self, rows_at_once: int) -> Iterator[tuple[int, int, range]]:
        """Samples that need no more rows than those: first and last row, and their numbers."""
        top = self._roi[2].item() * self._layer.spatial_scale - 0.5
        at_once = max(1, int((rows_at_once - 1 - _BEYOND) / self._step))
        for first in range(0, self._missing, at_once):
            samples = range(first, min(first + at_once, self._missing))
            upper, lower = (top + (at + 0.5) * self._step for at in (first, samples[-1]))
            yield math.floor(upper) - 1, math.floor(lower) + _BEYOND, samples

    def add(self, rows: Tensor, shift: Tensor, samples: range) -> bool:
        """Add samples from rows of the map. Returns whether these were the last."""
        layer, roi = self._layer, self._roi - shift
        start, stop = (
            at * self._step / layer.spatial_scale for at in (samples.start, samples.stop)
        )
        roi = torch.stack([roi[0], roi[1], roi[2] + start, roi[3], roi[2] + stop])
        across = layer.output_size[1]
        fine = RoIAlign((len(samples), across * max(1, self._across)), layer.spatial_scale, 1)
        sums = fine(rows, _in_first_image(roi[None]))[0].unflatten(-1, (across, -1)).sum(-1)
        bins = torch.tensor(samples, device=rows.device) // self._down
        self.features.index_add_(1, bins, sums)
        self._missing -= len(samples)
        if not self._missing:
            self.features /= self._down * self._across or math.inf  # RoIAlign's mean of nothing: 0
        return not self._missing


def _in_first_image(rois: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(rois[:, :1]), rois[:, 1:]], dim=1)
