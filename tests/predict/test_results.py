"""Predictions of every kind of model come out alike."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from pycocotools import mask as coco_mask

from xcit_dense.predict.results import from_instances, from_sample

MASKS = torch.rand(3, 20, 30) < 0.4


def instances(**more):
    return InstanceData(
        bboxes=torch.rand(3, 4), labels=torch.tensor([2, 0, 1]), scores=torch.rand(3), **more
    )


def test_masks_in_whole_arrays_are_encoded():
    masks = from_instances(instances(masks=MASKS)).masks
    assert np.array_equal([coco_mask.decode(mask) for mask in masks], MASKS.numpy())


def test_annotated_masks_are_encoded():
    from mmdet.structures.mask import BitmapMasks

    masks = from_instances(instances(masks=BitmapMasks(MASKS.numpy().astype(np.uint8), 20, 30)))
    assert np.array_equal([coco_mask.decode(mask) for mask in masks.masks], MASKS.numpy())


def test_boxes_alone():
    found = from_instances(instances())
    assert found.masks is None
    assert found.boxes.shape == (3, 4)


def test_labels_are_integers_also_where_a_model_has_floats():
    labels = torch.tensor([0.0, 2.0])
    found = from_instances(InstanceData(bboxes=torch.zeros(2, 4), labels=labels))
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [0, 2]


def test_models_without_boxes_get_those_of_their_masks():
    found = instances(masks=torch.zeros(3, 20, 30, dtype=torch.bool))
    found.masks[0, 4:6, 7:10] = True
    found.bboxes.zero_()
    assert from_instances(found).boxes.tolist() == [[7, 4, 10, 6], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_segments_of_a_panoptic_map_become_objects():
    segments = torch.full((1, 6, 8), 1)
    segments[0, :2, :3] = 4 + 1000 * 7
    segments[0, 2:, 5:] = 4 + 1000 * 8
    sample = BaseDataElement(pred_panoptic_seg=PixelData(sem_seg=segments))
    found = from_sample(sample)
    assert found.labels.tolist() == [1, 4, 4]
    assert found.boxes.tolist() == [[0, 0, 8, 6], [0, 0, 3, 2], [5, 2, 8, 6]]
    assert found.scores is None
    assert found.above(0.9) is found


def test_a_sample_without_predictions_is_an_error():
    with pytest.raises(ValueError, match="wanted are instances"):
        from_sample(BaseDataElement())
