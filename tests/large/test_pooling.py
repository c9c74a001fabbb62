"""Pooling by windows is what every window by itself gives, blended by nearness."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.psp_head import PPM

from xcit_dense.large import maps
from xcit_dense.large.maps import OfTensor, Reader
from xcit_dense.large.pooling import pooled_maps


def hat(length, start, size, last_start):
    """1 at the middle of a window of two cells, 0 at its ends, apart from those of the map."""
    places = (torch.arange(length) + 0.5 - start - size) / size
    near = (1 - places.abs()).clamp_min(0)
    if start == 0:
        near[places < 0] = 1
    if start == last_start:
        near[places > 0] = 1
    return near


def blended(branch, feature_map, cell):
    """Window by window; ``cell`` is half a window, and more than one fits into each side."""
    starts = [range(0, side - cell, cell) for side in feature_map.shape[2:]]
    total = 0
    for top in starts[0]:
        for left in starts[1]:
            seen = feature_map[:, :, top : top + 2 * cell, left : left + 2 * cell]
            large = F.interpolate(branch(seen), seen.shape[2:], mode="bilinear")
            right, below = (
                side - start - length
                for side, start, length in zip(
                    feature_map.shape[:1:-1], (left, top), large.shape[:1:-1], strict=True
                )
            )
            place = F.pad(large, (left, right, top, below))
            rows, columns = (
                hat(side, start, cell, several[-1])
                for side, start, several in zip(
                    feature_map.shape[2:], (top, left), starts, strict=True
                )
            )
            total = total + place * rows[:, None] * columns
    return total


@pytest.mark.parametrize("size", [(24, 16), (22, 15)])
@pytest.mark.parametrize("rows", [1, 5, 100])
@torch.no_grad()
def test_equals_windows_one_by_one(size, rows, monkeypatch):
    monkeypatch.setattr(maps, "_ELEMENTS", rows * size[1] * 6)
    pyramid = PPM((1, 2, 3), 6, 4, None, dict(type="BN"), dict(type="ReLU"), False).eval()
    feature_map = torch.randn(1, 6, *size) + torch.arange(size[0])[:, None] / 5
    found = pooled_maps(pyramid, OfTensor(feature_map), align_corners=False, window=8)
    for branch, one in zip(pyramid, found, strict=True):
        whole = Reader(one).read(0, size[0])
        torch.testing.assert_close(whole, blended(branch, feature_map, cell=4))


@pytest.mark.parametrize("window", [None, 48])
@torch.no_grad()
def test_places_that_are_not_seen_are_not_pooled(window):
    pyramid = PPM((1, 2), 6, 4, None, dict(type="BN"), dict(type="ReLU"), False).eval()
    feature_map, seen = torch.randn(1, 6, 24, 16), torch.ones(48, 32, dtype=torch.bool)
    seen[24:] = seen[:, :10] = False  # twice as fine as the map
    found = pooled_maps(pyramid, OfTensor(feature_map), False, window, seen)
    of_seen = feature_map[:, :, :12, 5:]
    mean = of_seen.mean((2, 3), keepdim=True)
    upper = [of_seen[..., :3].mean((2, 3)), of_seen[..., 3:].mean((2, 3))]
    lower = mean.expand(-1, -1, 1, 2)  # where nothing is seen
    halves = torch.cat([torch.stack(upper, dim=2)[:, :, None], lower], dim=2)
    for branch, pooled, one in zip(pyramid, (mean, halves), found, strict=True):
        expected = F.interpolate(branch[1](pooled), (24, 16), mode="bilinear")
        torch.testing.assert_close(Reader(one).read(0, 24), expected)
