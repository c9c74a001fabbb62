"""What is drawn lies where it should, in the colour of its class, and can be read."""

from itertools import combinations

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from PIL import ImageDraw

import xcit_dense  # noqa: F401
from xcit_dense.predict import (
    Categories,
    Detections,
    SegmentationMap,
    draw_ground_truth,
    draw_prediction,
)
from xcit_dense.predict.drawing import shrunk
from xcit_dense.predict.results import encode_mask

CATEGORIES = Categories(("a", "b"), ((250, 0, 0), (0, 0, 250)))
GREY = np.full((200, 300, 3), 128, np.uint8)


def detections(*boxes, labels=None):
    masks = []
    for left, top, right, bottom in boxes:
        mask = np.zeros(GREY.shape[:2], bool)
        mask[max(0, top) : bottom, max(0, left) : right] = True
        masks.append(encode_mask(mask))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels or [0] * len(boxes), int),
        np.full(len(boxes), 0.5),
        masks,
    )


@pytest.fixture
def grounds(monkeypatch):
    """The rectangles that texts stand on."""
    found = []
    rectangle = ImageDraw.ImageDraw.rectangle

    def look(self, box, fill=None, **options):
        if fill:
            found.append(box)
        rectangle(self, box, fill=fill, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", look)
    return found


def assert_apart_and_inside(rectangles, height, width):
    for one, other in combinations(rectangles, 2):
        is_beside = one[2] < other[0] or other[2] < one[0]
        assert is_beside or one[3] < other[1] or other[3] < one[1]
    assert all(left >= 0 and right <= width for left, _, right, _ in rectangles)
    assert all(top >= 0 and bottom <= height for _, top, _, bottom in rectangles)


@pytest.mark.parametrize("scale", [1, 0.5])
def test_masks_tint_their_place_in_the_colour_of_their_class(scale):
    image = shrunk(GREY, int(300 * scale))
    before = image.copy()
    found = detections((100, 60, 180, 140), labels=[1])
    picture = draw_prediction(image, found, CATEGORIES, GREY.shape[:2])
    assert picture.shape == (200 * scale, 300 * scale, 3)
    blue, green, red = picture[int(120 * scale), int(160 * scale)].astype(int)
    assert blue > 150 and green < 100 and red < 100
    assert (picture[int(190 * scale), int(290 * scale)] == 128).all()
    assert np.array_equal(image, before)


@pytest.mark.parametrize("box", [(0, 0, 300, 200), (299, 199, 300, 200), (50, 50, 50, 60)])
@pytest.mark.parametrize("longest_side", [None, 7])
def test_boxes_at_the_border_and_without_area(box, longest_side):
    image = shrunk(GREY, longest_side)
    picture = draw_prediction(image, detections(box), CATEGORIES, GREY.shape[:2])
    assert (picture != 128).any()


def test_texts_of_boxes_that_overlap_do_not(grounds):
    boxes = [(50 + 3 * n, 60 + 2 * n, 200 + n, 150 + n) for n in range(12)]
    draw_prediction(GREY, detections(*boxes), CATEGORIES)
    assert 3 <= len(grounds) <= 12
    assert_apart_and_inside(grounds, *GREY.shape[:2])


def test_a_segmentation_tints_every_pixel_but_those_without_a_class(grounds):
    labels = np.zeros(GREY.shape[:2], np.uint8)
    labels[:, 150:] = 1
    labels[150:, :150] = 255
    picture = draw_prediction(GREY, SegmentationMap(labels), CATEGORIES).astype(int)
    assert picture[140, 100, 2] > 150 > picture[140, 100, 0]
    assert picture[100, 250, 0] > 150 > picture[100, 250, 2]
    assert (picture[180, 20] == 128).all()
    assert len(grounds) == 2


def test_labels_that_are_no_class_are_said(grounds):
    labels = np.zeros(GREY.shape[:2], np.uint8)
    labels[100, 100] = 7
    picture = draw_prediction(GREY, SegmentationMap(labels), CATEGORIES)
    assert len(grounds) == 2
    assert (picture[100, 100] == 128).all()
    draw_prediction(GREY, Detections(np.ones((1, 4)), np.array([7])), CATEGORIES)
    assert len(grounds) == 3


@pytest.mark.parametrize("size", [(60, 90), (400, 300)])
def test_a_legend_has_no_more_rows_than_room(grounds, size):
    categories = Categories(("plant, Åg",) * 40, tuple((n, n, n) for n in range(40)))
    labels = np.arange(size[0] * size[1]).reshape(size) % 40
    draw_prediction(np.zeros((*size, 3), np.uint8), SegmentationMap(labels), categories)
    assert len(grounds) > 1
    assert_apart_and_inside(grounds, *size)


# an image of 40 x 60 pixels, made twice as large, and padded to 100 x 128
READ, RESIZED, PADDED = (40, 60), (80, 120), (100, 128)
BY_PREPROCESSOR = dict(ori_shape=READ, scale_factor=(2.0, 2.0), img_shape=RESIZED)
BY_PIPELINE = dict(ori_shape=READ, scale_factor=(2.0, 2.0), img_shape=PADDED)


def drawn(as_read, described, **truth):
    """The last row and the last column of what is drawn, each plus one."""
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo=described)
    sample.set_data(truth)
    picture = draw_ground_truth(GREY[:100, :128], sample, CATEGORIES, as_read)
    rows, columns = np.nonzero((picture != 128).any(-1))
    return rows.max() + 1, columns.max() + 1


def instances(*mask_size):
    """With a mask in the box, where a size is given."""
    box = torch.tensor([[10.0, 20.0, 30.0, 39.0]])
    found = InstanceData(bboxes=box, labels=torch.tensor([0]))
    if mask_size:
        found.masks = torch.zeros(1, *mask_size, dtype=torch.bool)
        found.masks[0, 20:40, 10:31] = True
    return found


def label_map(*size):
    return PixelData(sem_seg=torch.ones(1, *size, dtype=torch.long))


@pytest.mark.parametrize("described", [BY_PREPROCESSOR, BY_PIPELINE])
def test_ground_truth_of_the_image_as_read_is_enlarged_with_it(described):
    assert drawn(True, described, gt_instances=instances()) == (79, 61)
    assert drawn(True, described, gt_instances=instances(*READ)) == (80, 62)
    assert drawn(True, described, gt_sem_seg=label_map(*READ)) == RESIZED


def test_ground_truth_of_the_pixels_stays_where_it_is():
    for size in [(), RESIZED, PADDED]:  # mmdet pads masks with the batch
        assert drawn(False, BY_PREPROCESSOR, gt_instances=instances(*size)) == (40, 31)
    for size in [RESIZED, (10, 15)]:  # one is coarser, as of SegRescale
        assert drawn(False, BY_PREPROCESSOR, gt_sem_seg=label_map(*size)) == RESIZED
    assert drawn(False, BY_PREPROCESSOR, gt_sem_seg=label_map(*PADDED)) == PADDED
