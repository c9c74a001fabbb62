"""Masks as runs give what arrays of them give."""

import numpy as np
import pytest
from matplotlib.path import Path
from pycocotools import mask as coco_mask
from scipy.ndimage import label

from xcit_dense.large.runs import (
    NOTHING,
    area,
    clip,
    from_coco,
    mask_of,
    outlines,
    runs_of,
    shared_area,
    to_coco,
    unite,
)
from xcit_dense.large.sources import Window
from xcit_dense.predict.results import encode_mask


@pytest.fixture(params=range(40))
def masks(request):
    rng = np.random.default_rng(request.param)
    size = rng.integers(1, 30, 2)
    density = 1.0 if request.param == 0 else rng.random()
    return [rng.random(size) < density for _ in range(3)]


def test_they_compute_as_arrays_do(masks):
    one, other, third = masks
    height, width = one.shape
    window = Window(5, 7, height, width)
    runs, others, thirds = (runs_of(mask, 5, 7) for mask in masks)
    np.testing.assert_array_equal(mask_of(runs, window), one)
    assert area(runs) == one.sum()
    assert shared_area(runs, others) == (one & other).sum()
    united = runs_of(one | other | third, 5, 7)
    np.testing.assert_array_equal(unite([thirds, runs, others]), united)
    inner = Window(5 + height // 3, 7 + width // 4, max(1, height // 2), max(1, width // 2))
    part = np.zeros_like(one)
    rows, columns = Window(inner.top - 5, inner.left - 7, inner.height, inner.width).slices
    part[rows, columns] = one[rows, columns]
    np.testing.assert_array_equal(clip(runs, inner), runs_of(part, 5, 7))
    np.testing.assert_array_equal(mask_of(runs, inner), one[rows, columns])


def test_coco_has_the_same_run_lengths(masks):
    height, width = masks[0].shape
    for mask in (*masks, np.zeros_like(masks[0])):
        assert to_coco(runs_of(mask), height, width) == encode_mask(mask)
        np.testing.assert_array_equal(from_coco(encode_mask(mask)), runs_of(mask))
    placed = coco_mask.decode(to_coco(runs_of(masks[0], 2, 3), height + 4, width + 4))
    np.testing.assert_array_equal(placed, np.pad(masks[0], ((2, 2), (3, 1))))
    far = runs_of(masks[0], 60_000, 70_000)
    np.testing.assert_array_equal(from_coco(to_coco(far, 60_100, 71_000)), far)


def test_outlines_go_around_parts_and_holes(masks):
    mask = masks[0]
    polygons = outlines(runs_of(mask))
    assert len(polygons) == label(mask)[1]
    rows, columns = (each.reshape(-1) + 0.5 for each in np.indices(mask.shape))
    times = np.zeros(mask.size, int)
    for polygon in polygons:
        inside = [Path(ring).contains_points(np.stack([columns, rows], 1)) for ring in polygon]
        times += np.logical_xor.reduce(inside)
        for index, ring in enumerate(polygon):
            assert (signed_area(ring) > 0) == (index == 0)
            turns = np.roll(ring, -1, axis=0) - ring != 0
            assert (turns.sum(axis=1) == 1).all()  # along edges of pixels, each corner is one
            assert (turns[:, 0] != np.roll(turns[:, 0], 1)).all()
    np.testing.assert_array_equal(times.reshape(mask.shape), mask)


def signed_area(ring):
    x, y = ring.T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def test_nothing_and_what_an_array_could_not_hold():
    assert area(NOTHING) == shared_area(NOTHING, NOTHING) == len(unite([])) == 0
    assert outlines(NOTHING) == []
    far = 2**31 - 9
    runs = runs_of(np.ones((3, 2), bool), far, far)
    assert shared_area(runs, runs_of(np.ones((3, 2), bool), far + 1, far + 1)) == 2
    np.testing.assert_array_equal(outlines(runs)[0][0].max(axis=0), [far + 2, far + 3])
