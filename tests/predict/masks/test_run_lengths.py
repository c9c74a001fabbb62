"""Run lengths from a window equal those that pycocotools makes of the whole image."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from xcit_dense.predict.masks.run_lengths import (
    decode_in_box,
    encode_mask,
    encode_windows,
)


def by_pycocotools(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 5), (40, 63)])
def test_a_whole_mask(shape, density):
    mask = np.random.default_rng(0).random(shape) < density
    assert encode_mask(mask) == by_pycocotools(mask)


@pytest.mark.parametrize("seed", range(40))
def test_a_window_anywhere_in_the_image(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 30, 2)
    top, bottom = np.sort(rng.integers(0, height + 1, 2))
    left, right = np.sort(rng.integers(0, width + 1, 2))
    bottom, right = max(bottom, top + 1), max(right, left + 1)
    top, left = min(top, height - 1), min(left, width - 1)
    whole = np.zeros((height, width), dtype=bool)
    whole[top:bottom, left:right] = rng.random(whole[top:bottom, left:right].shape) < 0.6
    window = (whole[top:bottom, left:right], int(top), int(left))
    assert encode_windows([window], int(height), int(width)) == by_pycocotools(whole)


def test_a_mask_in_bands():
    mask = np.random.default_rng(0).random((20, 31)) < 0.7
    bands = [(mask[:, first : first + 7], 0, first) for first in range(0, 31, 7)]
    assert encode_windows(bands, 20, 31) == by_pycocotools(mask)


def test_no_window_is_an_empty_mask():
    assert encode_windows([], 6, 4) == by_pycocotools(np.zeros((6, 4)))


def test_columns_that_meet_are_one_run():
    run_lengths = encode_mask(np.ones((3, 4), dtype=bool))
    assert run_lengths == coco_mask.frPyObjects({"size": [3, 4], "counts": [0, 12]}, 3, 4)


def test_decoding_gives_the_part_that_the_mask_lies_in():
    mask = np.zeros((50, 60), dtype=bool)
    mask[10:20, 30:45] = np.random.default_rng(0).random((10, 15)) < 0.5
    mask[10, 30] = mask[19, 44] = True
    part, top, left = decode_in_box(encode_mask(mask))
    assert (top, left, part.shape) == (10, 30, (10, 15))
    assert np.array_equal(part, mask[10:20, 30:45])


def test_decoding_an_empty_mask():
    part, _, _ = decode_in_box(encode_mask(np.zeros((5, 5))))
    assert part.size == 0


@pytest.mark.parametrize("seed", range(60))
def test_decoding_gives_back_what_was_encoded(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(rng.integers(1, 60, 2), bool)
    rows, columns = (np.sort(rng.integers(0, side + 1, 2)) for side in mask.shape)
    window = mask[slice(*rows), slice(*columns)]
    window[:] = rng.random(window.shape) < rng.choice([0.1, 0.9, 1.0])
    part, top, left = decode_in_box(by_pycocotools(mask))
    again = np.zeros_like(mask)
    again[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert np.array_equal(again, mask)


def test_decoding_makes_no_whole_image():
    mask = {"size": [60_000, 60_000], "counts": [60_000 * 30_000 + 100, 50, 59_950, 50]}
    mask["counts"].append(60_000**2 - sum(mask["counts"]))
    part, top, left = decode_in_box(coco_mask.frPyObjects(mask, 60_000, 60_000))
    assert (top, left, part.shape) == (100, 30_000, (50, 2))
    assert part.all()


def test_runs_of_no_length_do_not_count():
    mask = coco_mask.frPyObjects({"size": [4, 3], "counts": [2, 0, 3, 2, 0, 1, 4]}, 4, 3)
    part, top, left = decode_in_box(mask)
    assert (top, left, part.sum()) == (1, 1, 3)
