"""What is drawn lies where it should."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from PIL import ImageDraw

from xcit_dense.predict import (
    Categories,
    Detections,
    SegmentationMap,
    draw_prediction,
    drawing,
)
from xcit_dense.predict.masks.run_lengths import encode_mask

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


NOISE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)


def mixed(pixels, colour):
    """Image and colour, given in red, green, blue."""
    return (pixels * 0.55 + np.array(colour[::-1]) * 0.45).astype(np.uint8)


def test_inside_a_mask_image_and_colour_are_mixed():
    found = Detections(np.zeros((1, 4)), np.array([1]), masks=[mask_in((60, 100, 280, 190))])
    picture = draw_prediction(NOISE, found, CATEGORIES)
    inner = np.s_[101:189, 61:279]
    assert np.array_equal(picture[inner], mixed(NOISE[inner], CATEGORIES.palette[1]))


@pytest.mark.parametrize("pixels_in_a_band", [1, 777, 2**18])
def test_a_segmentation_in_bands_is_the_same(monkeypatch, pixels_in_a_band):
    monkeypatch.setattr(drawing, "PIXELS_IN_A_BAND", pixels_in_a_band)
    labels = np.random.default_rng(1).integers(0, 3, NOISE.shape[:2])
    picture = draw_prediction(NOISE, SegmentationMap(labels), CATEGORIES)
    below_legend = np.s_[60:]
    expected = NOISE.copy()
    for label, colour in enumerate(CATEGORIES.palette):
        expected[labels == label] = mixed(NOISE[labels == label], colour)
    assert np.array_equal(picture[below_legend], expected[below_legend])


def test_a_legend_without_room_names_the_largest_classes():
    names = tuple("abcdefghij")
    categories = Categories(names, ((1, 2, 3),) * 10)
    counts = np.array([90, 5, 80, 70, 0, 10, 60, 20, 30, 40])
    assert [text for text, _ in drawing._legend(counts, categories, rows=9)] == list("abcdfghij")
    few = [text for text, _ in drawing._legend(counts, categories, rows=4)]
    assert few == ["a", "c", "d", "and 6 more"]
    (only,) = drawing._legend(counts, categories, rows=1)
    assert only[0] == "9 classes"


@pytest.mark.parametrize("size", [(60, 90), (400, 300), (2000, 2000)])
def test_rows_of_a_legend_do_not_overlap(monkeypatch, size):
    boxes = []
    rectangle = ImageDraw.ImageDraw.rectangle
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "rectangle",
        lambda self, box, **options: boxes.append(box) or rectangle(self, box, **options),
    )
    categories = Categories(("plant, Åg",) * 40, tuple((n, n, n) for n in range(40)))
    labels = np.arange(size[0] * size[1]).reshape(size) % 40
    draw_prediction(np.zeros((*size, 3), np.uint8), SegmentationMap(labels), categories)
    assert len(boxes) > 1
    assert all(above[3] < below[1] for above, below in pairwise(boxes))
    assert boxes[-1][3] <= size[0]


@pytest.mark.parametrize("name", ["Größe", "łąka", "кошка", "γάτα", "ağaç"])
def test_names_have_their_letters(name):
    """A letter that a font lacks is drawn as its box for missing ones."""
    font = drawing._font(20)
    missing = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(letter)) != missing for letter in name)


def test_a_large_picture_takes_little_memory():
    """Beyond copies of the image, which NumPy counts."""
    image = np.zeros((2000, 3000, 3), np.uint8)
    labels = np.zeros(image.shape[:2], np.uint16)
    labels[500:] = 1
    whole = encode_mask(np.ones(image.shape[:2], bool))
    found = Detections(np.array([[0, 0, 3000, 2000]]), np.array([0]), masks=[whole])
    for prediction in (found, SegmentationMap(labels)):
        tracemalloc.start()
        draw_prediction(image, prediction, CATEGORIES)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * image.nbytes
