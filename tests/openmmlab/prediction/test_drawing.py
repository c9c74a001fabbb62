"""What is drawn lies where it should."""

import numpy as np
import pytest

from xcit_dense.openmmlab.prediction import Categories, Detections, SegmentationMap, draw_prediction
from xcit_dense.openmmlab.prediction.run_lengths import encode_mask

CATEGORIES = Categories(("one", "two"), ((250, 0, 0), (0, 0, 250)))
GREY = np.full((200, 300, 3), 128, np.uint8)


def mask_in(box):
    left, top, right, bottom = box
    mask = np.zeros(GREY.shape[:2], bool)
    mask[top:bottom, left:right] = True
    return encode_mask(mask)


def detections(*boxes, labels=None, masks=True):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels or [0] * len(boxes), int),
        np.full(len(boxes), 0.5),
        [mask_in(box) for box in boxes] if masks else None,
    )


@pytest.mark.parametrize("longest_side", [None, 150])
def test_masks_tint_their_place_in_the_colour_of_their_class(longest_side):
    found = detections((100, 60, 180, 140), labels=[1])
    picture = draw_prediction(GREY, found, CATEGORIES, longest_side)
    scale = 1 if longest_side is None else 0.5
    assert picture.shape == (200 * scale, 300 * scale, 3)
    blue, green, red = picture[int(120 * scale), int(160 * scale)].astype(int)
    assert blue > 150 and green < 100 and red < 100
    assert (picture[int(190 * scale), int(290 * scale)] == 128).all()


def test_the_image_itself_stays():
    before = GREY.copy()
    draw_prediction(GREY, detections((10, 10, 90, 90)), CATEGORIES)
    assert np.array_equal(GREY, before)


def test_small_objects_lie_above_large_ones():
    found = detections((100, 60, 140, 100), (20, 20, 280, 190), labels=[0, 1], masks=True)
    blue, _, red = draw_prediction(GREY, found, CATEGORIES)[80, 120].astype(int)
    assert red > blue


@pytest.mark.parametrize(
    "box", [(0, 0, 300, 200), (0, 0, 1, 1), (299, 199, 300, 200), (50, 50, 50, 60), (-9, -9, 2, 2)]
)
@pytest.mark.parametrize("longest_side", [None, 7])
def test_boxes_at_the_border_and_without_area(box, longest_side):
    inside = np.clip(box, 0, [300, 200, 300, 200])
    found = Detections(np.array([box], np.float32), np.array([0]), masks=[mask_in(inside)])
    draw_prediction(GREY, found, CATEGORIES, longest_side)


def test_nothing_found_leaves_the_image():
    assert np.array_equal(draw_prediction(GREY, detections(), CATEGORIES), GREY)


def test_a_segmentation_tints_every_pixel_but_those_without_a_class():
    labels = np.zeros(GREY.shape[:2], np.uint8)
    labels[:, 150:] = 1
    labels[150:, :150] = 255
    picture = draw_prediction(GREY, SegmentationMap(labels), CATEGORIES).astype(int)
    assert picture[100, 100, 2] > 150 > picture[100, 100, 0]
    assert picture[100, 250, 0] > 150 > picture[100, 250, 2]
    assert (picture[180, 20] == 128).all()
