"""Attention from windows: every token is mixed as the windows around it would, by nearness."""

import pytest
import torch
from small_backbone import Backbone

from xcit_dense.engine import Engine, TensorSource
from xcit_dense.engine.context import WholeImage, Windows
from xcit_dense.network import Moments

CHANNELS = 5


def make(moments):
    """Any layer that depends on all of the moments."""
    return moments.covariance + moments.mean[..., None, :], moments.mean**2


def pack(weight, bias):
    return lambda tokens: tokens @ weight.mT + bias


def mixed_by_windows(grid, window):
    """Window by window, each with all of its tokens; weights are hats around the centres."""
    cells = [max(1, round(2 * side / window)) for side in grid.shape[:2]]
    sizes = [-(-side // count) for side, count in zip(grid.shape[:2], cells, strict=True)]
    starts = [
        range(0, max(side - size, 1), size)
        for side, size in zip(grid.shape[:2], sizes, strict=True)
    ]
    total = torch.zeros_like(grid)
    for top in starts[0]:
        for left in starts[1]:
            seen = grid[top : top + 2 * sizes[0], left : left + 2 * sizes[1]].flatten(0, 1)
            mixed = pack(*make(Moments.of(seen)))(grid)
            near = [
                hat(side, start, size, several)
                for side, start, size, several in zip(
                    grid.shape[:2], (top, left), sizes, starts, strict=True
                )
            ]
            total += near[0][:, None, None] * near[1][:, None] * mixed
    return total


def hat(length, start, size, starts):
    places = (torch.arange(length, dtype=torch.float64) + 0.5 - start - size) / size
    near = (1 - places.abs()).clamp_min(0)
    if start == starts[0]:
        near[places < 0] = 1
    if start == starts[-1]:
        near[places > 0] = 1
    return near


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (40, 9), (3, 50), (8, 8), (1, 1)])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_equals_windows_one_by_one(size, rows):
    torch.manual_seed(0)
    height, width = size
    # in a large image the parts differ
    grid = torch.randn(height, width, CHANNELS, dtype=torch.float64)
    grid += torch.arange(height)[:, None, None] + torch.arange(width)[:, None] / 3
    context = Windows(height, width, window=8)
    for first in range(0, height, rows):
        context.gather(first, grid[first : first + rows].flatten(0, 1))
    context.use(make, pack)
    found = [
        context.mix(first, grid[first : first + rows].flatten(0, 1))
        for first in range(0, height, rows)
    ]
    expected = mixed_by_windows(grid, window=8)
    torch.testing.assert_close(torch.cat(found), expected.flatten(0, 1), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_window_as_large_as_the_image_is_the_whole():
    model, image = Backbone(), torch.randn(1, 3, 130, 200)
    whole = Engine(model.trunk, model.pyramid).levels(image)
    windowed = Engine(model.trunk, model.pyramid, window=208).levels(image)
    torch.testing.assert_close(windowed, whole, rtol=2e-5, atol=2e-5)


@torch.no_grad()
def test_nothing_far_away_is_seen():
    model = Backbone()
    engine = Engine(model.trunk, model.pyramid, window=64)
    image = torch.randn(1, 3, 64, 1024)
    other = image.clone()
    other[..., 800:] = 5
    # four blocks see a window and a half each
    near, changed = (engine.levels(one)[2][..., :20] for one in (image, other))
    torch.testing.assert_close(near, changed)
    assert not torch.equal(*(engine.levels(one)[2][..., 45:] for one in (image, other)))


class Masked(TensorSource):
    """An image with data where ``mask`` says so."""

    def __init__(self, image, mask):
        super().__init__(image)
        self.mask = mask

    def valid(self, first, last):
        return None if self.mask[first:last].all() else self.mask[first:last]


def levels_of(engine, image, mask):
    return engine.features(Masked(image, mask)).levels(0, len(mask))


@pytest.mark.parametrize("window", [None, 64])
@torch.no_grad()
def test_what_has_no_data_is_nobodys_context(window):
    model, image = Backbone(), torch.randn(1, 3, 200, 410)[0]
    engine = Engine(model.trunk, model.pyramid, window=window)
    mask = torch.ones(200, 410, dtype=torch.bool)
    whole = engine.features(TensorSource(image)).levels(0, 200)
    torch.testing.assert_close(levels_of(engine, image, mask), whole, rtol=0, atol=0)
    mask[:, 230:] = False
    other = image.clone()
    other[:, :, 368:] = 5  # neighbours reach 2 x 16 columns a block
    near, changed = (
        [level[..., : level.shape[-1] // 8] for level in levels_of(engine, each, mask)]
        for each in (image, other)
    )
    torch.testing.assert_close(near, changed)
    if window is None:
        assert not torch.allclose(near[2], whole[2][..., : near[2].shape[-1]])
    nothing = levels_of(engine, image, torch.zeros_like(mask))
    assert all(level.isfinite().all() for level in nothing)


@pytest.mark.parametrize("rows", [1, 100])
def test_moments_are_those_of_what_is_seen(rows):
    grid = torch.randn(17, 23, CHANNELS, dtype=torch.float64)
    seen = torch.rand(17, 23) < 0.5
    seen[:, :8] = False
    contexts = WholeImage(seen), Windows(17, 23, 46, seen)  # a window as large as the grid
    for context in contexts:
        for first in range(0, 17, rows):
            context.gather(first, grid[first : first + rows].flatten(0, 1))
        context.use(make, pack)
        expected = pack(*make(Moments.of(grid[seen])))(grid.flatten(0, 1))
        torch.testing.assert_close(context.mix(0, grid.flatten(0, 1)), expected)
