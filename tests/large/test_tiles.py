"""Tiles leave no seams, and of an object that they cut one whole detection."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xcit_dense.errors import UserError
from xcit_dense.large.arrays import ArrayRaster
from xcit_dense.large.merging import merge
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import mask_of, runs_of
from xcit_dense.large.sources import Window
from xcit_dense.large.tiles import BLOCK, detect_tiles, lay_tiles, segment_tiles
from xcit_dense.predict import Categories, Detections, SegmentationMap
from xcit_dense.predict.results import encode_mask

TILE, OVERLAP = 64, 24


def pixels_of(array, valid=None):
    """Pixels of a grey array (H, W)."""
    bands = array[..., None].repeat(3, axis=2)
    if valid is not None:
        bands = np.dstack([bands, valid * np.uint8(255)])
    return Pixels(ArrayRaster("array", lambda: bands, "YXC", has_alpha=valid is not None))


class Finder:
    """Finds rectangles of one value exactly, as far as it sees them; their label is value % 2."""

    def __init__(self, has_masks=True):
        self.has_masks = has_masks
        self.seen = []

    def predict_batch(self, images, resize):
        assert not resize
        self.seen.append(len(images))
        return [self.find(image[..., 0]) for image in images]

    def find(self, image):
        values = np.unique(image[image > 0]).astype(int)
        places = [np.nonzero(image == value) for value in values]
        boxes = [(x.min(), y.min(), x.max() + 1, y.max() + 1) for y, x in places]
        return Detections(
            np.array(boxes, np.float64).reshape(-1, 4),
            values % 2,
            0.5 + np.array([len(y) for y, _ in places]) / image.size / 2,
            [encode_mask(image == value) for value in values] if self.has_masks else None,
        )


def check_found(found, array):
    """Each value of the array once, whole."""
    expected = Finder().find(array)
    assert len(found) == len(expected)
    order, expected_order = np.lexsort(found.boxes.T), np.lexsort(expected.boxes.T)
    np.testing.assert_array_equal(found.boxes[order], expected.boxes[expected_order])
    np.testing.assert_array_equal(found.labels[order], expected.labels[expected_order])
    values = np.unique(array)[1:][expected_order]
    for index, value in zip(order, values, strict=True):
        if found.masks is not None:
            whole = Window(0, 0, *array.shape)
            np.testing.assert_array_equal(mask_of(found.masks[index], whole), array == value)
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("has_masks", [True, False])
@pytest.mark.parametrize("size", [(3, 5), (20, 20), (30, 70), (90, 10), (130, 150), (5, 200)])
def test_a_rectangle_anywhere_comes_once_and_whole(size, has_masks):
    """Also one that crosses many tiles, or is larger than a tile."""
    rng = np.random.default_rng(sum(size))
    for _ in range(12):
        array = np.zeros((151, 210), np.uint8)
        top, left = (
            int(rng.integers(0, a - b + 1)) for a, b in zip(array.shape, size, strict=True)
        )
        array[top : top + size[0], left : left + size[1]] = 7
        finder = Finder(has_masks)
        check_found(detect_tiles(finder, pixels_of(array), TILE, OVERLAP, batch_size=5), array)
        assert sum(finder.seen) == 4 * 5


@pytest.mark.parametrize("has_masks", [True, False])
def test_close_neighbours_stay_apart(has_masks):
    """Rectangles that touch or lie a pixel apart all over the raster, two labels."""
    rng = np.random.default_rng(0)
    for gap in (0, 1):
        rows, columns = (np.cumsum(rng.integers(3, 40, 40)) for _ in range(2))
        array = np.zeros((201, 250), np.uint8)
        number = 0
        for top, bottom in pairwise(rows):
            for left, right in pairwise(columns):
                part = array[top : bottom - gap, left : right - gap]
                if part.size:
                    number += 1
                    part[:] = number
        assert 50 < number < 256
        check_found(detect_tiles(Finder(has_masks), pixels_of(array), TILE, OVERLAP), array)


def test_concave_objects_are_united():
    """A tile sees the legs of a U as two objects of which another sees how they hang together."""
    whole = np.zeros((64, 104), bool)
    whole[10:50, 20:100] = True
    whole[20:40, :70] = False
    tiles = [Window(0, 0, 64, 64), Window(0, 40, 64, 64)]
    legs = [whole & (np.arange(64)[:, None] < 30), whole & (np.arange(64)[:, None] >= 30)]
    pieces = [[leg[:, :64] for leg in legs], [whole[:, 40:]]]
    found = [placed(masks, tile) for masks, tile in zip(pieces, tiles, strict=True)]
    united = merge(found, tiles, whole.shape)
    assert len(united) == 1
    np.testing.assert_array_equal(mask_of(united.masks[0], Window(0, 0, 64, 104)), whole)


def placed(masks, tile, scores=None):
    runs = [runs_of(mask, tile.top, tile.left) for mask in masks]
    boxes = [(r[:, 0].min(), r[:, 1].min(), r[:, 0].max() + 1, r[:, 2].max()) for r in runs]
    scores = np.full(len(masks), 0.5) if scores is None else np.array(scores)
    return Detections(np.array(boxes, float), np.zeros(len(masks), int), scores, runs)


BOX = Window(0, 0, 64, 64), Window(0, 40, 64, 64)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        # both saw it whole, one a little larger: the better one
        ([(45, 10, 60, 30, 0.6)], [(44, 10, 60, 31, 0.9)], [(44, 10, 60, 31, 0.9)]),
        # a bad piece at the border lies in what the other one saw whole, though it scores more
        ([(58, 12, 64, 18, 0.9)], [(45, 10, 90, 30, 0.8)], [(45, 10, 90, 30, 0.8)]),
        # as does a piece that ends a little before the border
        ([(45, 12, 62, 18, 0.9)], [(44, 10, 90, 30, 0.8)], [(44, 10, 90, 30, 0.8)]),
        # a small one before a large one is no piece of it
        ([(46, 12, 54, 18, 0.9)], [(42, 10, 90, 30, 0.8)], [(46, 12, 54, 18), (42, 10, 90, 30)]),
        # cut by both: united
        ([(10, 10, 64, 30, 0.9)], [(40, 11, 90, 30, 0.8)], [(10, 10, 90, 30, 0.9)]),
        # seen by one only, even at a border
        ([(55, 10, 64, 30, 0.9)], [], [(55, 10, 64, 30, 0.9)]),
        # a doubtful piece that reaches over to the next object joins no two
        ([(41, 10, 52, 30, 0.9), (56, 10, 64, 30, 0.8)], [(41, 10, 62, 30, 0.3)], None),
        # two of a tile are two
        ([(41, 10, 55, 30, 0.9), (47, 10, 60, 30, 0.8)], [(44, 10, 58, 30, 0.5)], None),
    ],
)
def test_boxes_that_are_not_exact(left, right, expected):
    found = []
    for rows in (left, right):
        rows = np.array(rows, float).reshape(-1, 5)
        found.append(Detections(rows[:, :4], np.zeros(len(rows), int), rows[:, 4]))
    merged = merge(found, BOX, (64, 104))
    if expected is None:
        assert len(merged) == len(left)
    else:
        boxes = [row[:4] for row in expected]
        np.testing.assert_array_equal(merged.boxes, boxes)
        assert merged.scores[0] == expected[0][4] if len(expected[0]) > 4 else True


@pytest.mark.parametrize(
    ("piece", "score", "count"),
    [
        ([58.0, 12, 64, 18], 0.8, 1),
        ([58.0, 12, 64, 18], 0.95, 2),  # a better one
        ([46.0, 12, 54, 18], 0.8, 2),  # not cut
        ([20.0, 12, 64, 18], 0.8, 2),  # goes on where the other tile sees nothing
        ([58.0, 12, 64, 40], 0.8, 2),  # not inside
    ],
)
def test_pieces_of_a_wrong_label(piece, score, count):
    whole = Detections(np.array([[44.0, 10, 90, 30]]), np.array([3]), np.array([0.9]))
    other = Detections(np.array([piece]), np.array([1]), np.array([score]))
    merged = merge([other, whole], BOX, (64, 104))
    assert len(merged) == count and (count == 2 or merged.labels == 3)
    flipped = merge([whole, other], BOX[::-1], (64, 104))
    assert flipped.boxes.tolist() == merged.boxes.tolist()


def test_labels_keep_objects_apart_and_scores_may_be_missing():
    boxes = np.array([[45.0, 10, 60, 30]])
    found = [Detections(boxes, np.array([label])) for label in (0, 1)]
    assert merge(found, BOX, (64, 104)).labels.tolist() == [0, 1]
    assert len(merge([found[0], found[0]], BOX, (64, 104))) == 1
    assert len(merge([], [], (64, 104))) == 0


@pytest.mark.parametrize("size", [(1, 1), (40, 300), (64, 65), (700, 530), (1025, 64)])
@pytest.mark.parametrize(
    ("tile", "overlap"), [(64, 24), (64, 0), (300, 130), (256, 255), (2000, 9)]
)
def test_tiles_cover_all_evenly(size, tile, overlap):
    if overlap == 255:
        size = size[0] // 3 + 1, size[1] // 3 + 1
    for length in size:
        side = lay_tiles(length, tile, overlap)
        assert side.length == min(tile, length)
        assert (side.starts[0], side.starts[-1] + side.length) == (0, length)
        steps = np.diff(side.starts)
        assert (steps > 0).all() and (side.length - steps >= overlap).all()
        assert side.bounds[0] == 0 and side.bounds[-1] == length
        assert all(bound % BLOCK == 0 for bound in side.bounds[:-1])
        total = np.zeros(length)
        for start, weights in zip(side.starts, side.weights, strict=True):
            total[start : start + side.length] += weights
        np.testing.assert_allclose(total, 1, atol=1e-6)
    with pytest.raises(UserError, match="--tile 64 --overlap 64: an overlap is 0 to tile - 1"):
        lay_tiles(100, 64, 64)


class Segmentor:
    """Logits that are the value of each pixel, plus what is said of each tile in turn."""

    def __init__(self, classes=2, plus=lambda tile: 0.0):
        self.categories = Categories(tuple(map(str, range(classes))), ((0, 0, 0),) * classes)
        self.classes, self.plus, self.tiles = classes, plus, 0
        self.model = SimpleNamespace(decode_head=SimpleNamespace(threshold=0.5))

    def logits_of(self, images):
        assert len({image.shape for image in images}) <= 1
        return [self.logits(image) for image in images]

    def logits(self, image):
        values = torch.from_numpy(image[..., 0].astype(np.float32))
        logits = torch.stack([-(values - label).abs() for label in range(self.classes)])
        logits[-1] += self.plus(self.tiles)
        self.tiles += 1
        return logits


def assembled(parts, shape):
    """The labels and probabilities of parts, which have to be aligned and cover all once."""
    labels, times, probabilities = np.zeros(shape, int), np.zeros(shape, int), None
    for window, found, probable in parts:
        assert found.shape == window[2:]
        for first, length, size in zip(window[:2], window[2:], shape, strict=True):
            assert first % BLOCK == 0 and ((first + length) % BLOCK == 0 or first + length == size)
        labels[window.slices] = found
        times[window.slices] += 1
        if probable is not None:
            if probabilities is None:
                probabilities = np.zeros((len(probable), *shape))
            probabilities[(slice(None), *window.slices)] = probable
    assert (times == 1).all()
    return labels, probabilities


@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (600, 300), (257, 1030), (520, 530)])
@pytest.mark.parametrize(
    ("tile", "overlap", "batch_size"), [(64, 24, 7), (300, 100, 2), (290, 0, 1)]
)
def test_every_pixel_gets_its_label_once(shape, tile, overlap, batch_size):
    values = np.random.default_rng(0).integers(0, 5, shape).astype(np.uint8)
    parts = segment_tiles(Segmentor(5), pixels_of(values), tile, overlap, batch_size)
    np.testing.assert_array_equal(assembled(parts, shape)[0], values)


def test_logits_are_blended_linearly():
    """Along a row and a column of tiles whose logits differ by their number."""
    for shape in [(64, 144), (144, 64)]:
        model = Segmentor(2, plus=lambda tile: 3.0 * tile)
        values = np.full(shape, 1, np.uint8)
        parts = segment_tiles(model, pixels_of(values), TILE, OVERLAP, with_probabilities=True)
        labels, probabilities = assembled(parts, shape)
        assert (labels == 1).all()
        rise = np.log(probabilities[1] / probabilities[0]) - 1
        line = rise[30] if shape[1] > shape[0] else rise[:, 30]
        ramp = 3 * (np.arange(OVERLAP) + 0.5) / OVERLAP
        expected = [np.zeros(40), ramp, np.full(16, 3), 3 + ramp, np.full(40, 6)]
        np.testing.assert_allclose(line, np.concatenate(expected), atol=1e-3)


def test_nodata_has_no_label_and_costs_nothing():
    values = np.random.default_rng(0).integers(0, 3, (500, 600)).astype(np.uint8)
    valid = np.zeros((500, 600), bool)
    valid[300:310, 100:400] = valid[20, 20] = True
    model = Segmentor(3)
    parts = segment_tiles(model, pixels_of(values, valid), 100, 20, with_probabilities=True)
    labels, _ = assembled(parts, values.shape)
    np.testing.assert_array_equal(labels, np.where(valid, values, 255))
    assert model.tiles < 0.25 * 7 * 8
    finder = Finder()
    detect_tiles(finder, pixels_of(values, np.zeros_like(valid)), 100, 20)
    assert sum(finder.seen) == 0


def test_nodata_does_not_reach_the_model():
    values = np.full((20, 20), 7, np.uint8)
    values[5:10] = 200
    seen = []

    def predict_batch(images, resize):
        seen.extend(images)
        return [Detections(np.empty((0, 4)), np.empty(0, int), np.empty(0), [])]

    detect_tiles(SimpleNamespace(predict_batch=predict_batch), pixels_of(values, values == 7))
    assert (seen[0] == 7).all()


def test_one_channel_and_many_classes():
    values = (np.arange(100 * 90).reshape(100, 90) % 2).astype(np.uint8)
    model = Segmentor(2)
    model.logits = lambda image: torch.from_numpy(image[None, ..., 0] * np.float32(0.6))
    labels, probabilities = assembled(
        segment_tiles(model, pixels_of(values), TILE, OVERLAP, with_probabilities=True), (100, 90)
    )
    np.testing.assert_array_equal(labels, values)
    np.testing.assert_allclose(probabilities, [1 - 0.6 * values, 0.6 * values], atol=1e-6)
    part = next(segment_tiles(Segmentor(300), pixels_of(values, values > 0)))
    assert part.labels.dtype == np.uint16 and set(part.labels.flat) == {1, 65535}


def test_what_does_not_fit_is_refused():
    pixels = pixels_of(np.zeros((9, 9), np.uint8))
    model = Segmentor(3)
    model.classes = 2
    with pytest.raises(UserError, match=r"logits for 2 classes, but .* name 3"):
        next(segment_tiles(model, pixels))
    labels = SimpleNamespace(predict_batch=lambda images, resize: [SegmentationMap(np.zeros(1))])
    with pytest.raises(UserError, match="finds no objects"):
        detect_tiles(labels, pixels)
