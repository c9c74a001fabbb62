"""Ground truth is drawn over the pixels that it belongs to, and not over padding."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

import xcit_dense  # noqa: F401
from xcit_dense.predict import Categories, SegmentationMap, draw_prediction
from xcit_dense.predict.ground_truth_pictures import draw_ground_truth
from xcit_dense.predict.resized_size import size_before_padding

CATEGORIES = Categories(("a", "b"), ((255, 0, 0), (0, 255, 0)))
GREY = np.full((100, 128, 3), 90, np.uint8)
# an image of 40 x 60 pixels, made twice as large
READ, RESIZED = (40, 60), (80, 120)
PADDED_BY_PREPROCESSOR = dict(ori_shape=READ, scale_factor=(2.0, 2.0), img_shape=RESIZED)
PADDED_BY_PIPELINE = dict(ori_shape=READ, scale_factor=(2.0, 2.0), img_shape=GREY.shape[:2])


def detection_sample(**described):
    from mmdet.structures import DetDataSample

    boxes = torch.tensor([[10.0, 5.0, 30.0, 20.0]])
    sample = DetDataSample(metainfo=described)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]))
    return sample


def label_map(rows, columns):
    labels = torch.zeros(1, rows, columns, dtype=torch.long)
    labels[:, :, columns // 2 :] = 1
    return labels


def segmentation_sample(labels, **described):
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=described)
    sample.gt_sem_seg = PixelData(data=labels)
    return sample


def outline(picture):
    """Left, top, right, bottom of what has the colour of the box."""
    rows, columns = np.nonzero((picture == (0, 0, 255)).all(-1))
    return [columns.min(), rows.max(), columns.max()]


@pytest.mark.parametrize("described", [PADDED_BY_PREPROCESSOR, PADDED_BY_PIPELINE])
def test_boxes_of_the_image_as_read_are_drawn_larger_with_it(described):
    picture = draw_ground_truth(GREY, detection_sample(**described), CATEGORIES, True)
    assert outline(picture) == [20, 40, 60]
    assert (GREY == 90).all()


def test_boxes_of_the_pixels_stay(described=PADDED_BY_PREPROCESSOR):
    picture = draw_ground_truth(GREY, detection_sample(**described), CATEGORIES)
    assert outline(picture) == [10, 20, 30]


@pytest.mark.parametrize("described", [PADDED_BY_PREPROCESSOR, PADDED_BY_PIPELINE])
def test_labels_of_the_image_as_read_cover_the_image_without_padding(described):
    sample = segmentation_sample(label_map(*READ), **described)
    picture = draw_ground_truth(GREY, sample, CATEGORIES, True)
    assert (picture[80:] == 90).all()
    assert (picture[:, 120:] == 90).all()
    truth = SegmentationMap(label_map(*RESIZED)[0].numpy())
    assert np.array_equal(picture[:80, :120], draw_prediction(GREY[:80, :120], truth, CATEGORIES))


@pytest.mark.parametrize("size", [RESIZED, (10, 15)], ids=["as large", "an eighth"])
def test_labels_that_are_not_padded_cover_the_image_alone(size):
    """As mmdet's without ``pad_seg``, and those of ``SegRescale``."""
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo=PADDED_BY_PREPROCESSOR)
    sample.gt_sem_seg = PixelData(sem_seg=label_map(*size))
    picture = draw_ground_truth(GREY, sample, CATEGORIES)
    assert (picture[80:] == 90).all()
    assert (picture[:, 120:] == 90).all()
    left, right = picture[60, 30].astype(int), picture[60, 90].astype(int)
    assert left[2] > left[1]
    assert right[1] > right[2]


def test_padded_labels_cover_the_padding_too():
    sample = segmentation_sample(label_map(*GREY.shape[:2]), **PADDED_BY_PREPROCESSOR)
    picture = draw_ground_truth(GREY, sample, CATEGORIES)
    assert (picture[-1] != 90).all()


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (PADDED_BY_PIPELINE, RESIZED),
        (dict(img_shape=(70, 110)), (70, 110)),
        ({}, GREY.shape[:2]),
        (dict(ori_shape=(3000, 20), scale_factor=(0.01, 0.01)), (30, 1)),
        (dict(ori_shape=(400, 400), scale_factor=(1.0, 1.0)), GREY.shape[:2]),
    ],
)
def test_the_size_before_padding(described, expected):
    sample = segmentation_sample(label_map(2, 2), **described)
    assert size_before_padding(sample, GREY.shape[:2]) == expected
