"""Predictions of every kind of model come out alike, with names and colours for their labels."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from pycocotools import mask as coco_mask

from xcit_dense.errors import UserError
from xcit_dense.predict.results import (
    categories_of,
    from_instances,
    from_sample,
    ground_truth_of,
    metainfo_of_checkpoint,
    metainfo_of_test_data,
)

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ("a", "b", "c")
MASKS = torch.rand(3, 20, 30) < 0.4


def instances(**more):
    return InstanceData(
        bboxes=torch.rand(3, 4), labels=torch.tensor([2, 0, 1]), scores=torch.rand(3), **more
    )


def test_masks_are_encoded():
    from mmdet.structures.mask import BitmapMasks

    for masks in (MASKS, BitmapMasks(MASKS.numpy().astype(np.uint8), 20, 30)):
        found = from_instances(instances(masks=masks)).masks
        assert np.array_equal([coco_mask.decode(mask) for mask in found], MASKS.numpy())


def test_boxes_alone_and_labels_that_are_floats():
    labels = torch.tensor([0.0, 2.0])
    found = from_instances(InstanceData(bboxes=torch.zeros(2, 4), labels=labels)).above(0.9)
    assert (found.masks, found.scores) == (None, None)
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [0, 2]


def test_a_score_threshold_keeps_what_belongs_together():
    found = from_instances(instances(masks=MASKS))
    kept = found.above(float(np.median(found.scores)))
    order = np.argsort(found.scores)[1:]
    assert sorted(kept.labels) == sorted(found.labels[order])
    assert kept.masks == [found.masks[index] for index in sorted(order)]
    assert len(kept) == len(kept.boxes) == 2


def test_models_without_boxes_get_those_of_their_masks():
    found = instances(masks=torch.zeros(3, 20, 30, dtype=torch.bool))
    found.masks[0, 4:6, 7:10] = True
    found.bboxes.zero_()
    assert from_instances(found).boxes.tolist() == [[7, 4, 10, 6], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_segments_of_a_panoptic_map_become_objects():
    segments = torch.full((1, 6, 8), 1)
    segments[0, :2, :3] = 4 + 1000 * 7
    segments[0, 2:, 5:] = 4 + 1000 * 8
    found = from_sample(BaseDataElement(pred_panoptic_seg=PixelData(sem_seg=segments)))
    assert found.labels.tolist() == [1, 4, 4]
    assert found.boxes.tolist() == [[0, 0, 8, 6], [0, 0, 3, 2], [5, 2, 8, 6]]


def test_samples_without_what_is_wanted_are_errors():
    with pytest.raises(ValueError, match="wanted are instances"):
        from_sample(BaseDataElement())
    coloured = PixelData(data=torch.zeros(6, 8, 3))
    with pytest.raises(UserError, match=r"m\.png .*\(6, 8, 3\).* one channel"):
        ground_truth_of(BaseDataElement(metainfo={"seg_map_path": "m.png"}, gt_sem_seg=coloured))


def config(**dataset):
    return Config(dict(default_scope="mmdet", test_dataloader=dict(dataset=dataset)))


def categories(checkpoint, cfg):
    return categories_of({**metainfo_of_test_data(cfg), **metainfo_of_checkpoint(checkpoint)}, "c")


@pytest.mark.parametrize(
    "meta",
    [
        dict(dataset_meta=dict(classes=NAMES)),
        dict(CLASSES=NAMES, mmdet_version="2.11.0"),
        dict(CLASSES=np.array(NAMES), PALETTE=np.array([[1, 2, 3]] * 3)),
        dict(dataset_meta=dict(classes=list(NAMES), palette="random")),
    ],
)
def test_a_checkpoint_names_the_classes(meta):
    found = categories(dict(meta=meta), config(metainfo=dict(classes=("x",))))
    assert found.names == NAMES
    assert len(set(found.palette)) == (1 if "PALETTE" in meta else 3)
    assert all(type(part) is int for colour in found.palette for part in colour)


@pytest.mark.parametrize(
    "meta", [None, {}, dict(dataset_meta=dict(classes=())), dict(dataset_meta=[dict(classes="x")])]
)
@pytest.mark.parametrize("form", ["list", "file", "unregistered", "several"])
def test_else_the_config_does(meta, form, tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    classes = str(tmp_path / "classes.txt") if form == "file" else NAMES
    kind = "MyOwn" if form == "unregistered" else "CocoDataset"
    dataset = dict(type=kind, metainfo=dict(classes=classes))
    if form == "several":
        dataset = dict(type="ConcatDataset", datasets=[dataset, dict(type="CocoDataset")])
    assert categories(dict(meta=meta), config(**dataset)).names == NAMES


@pytest.mark.parametrize("metainfo", [{}, dict(classes="missing.txt")])
def test_no_names_are_an_error(metainfo):
    error = FileNotFoundError if metainfo else UserError
    with pytest.raises(error, match=metainfo.get("classes", r"metainfo=dict\(classes")):
        categories({}, config(metainfo=metainfo))


@pytest.mark.parametrize("count", [2, 10, 25])
def test_own_classes_have_colours_that_differ(count):
    """And not the first of COCO's 80, of which two are reds."""
    names = tuple(map(str, range(count)))
    found = categories({}, config(type="CocoDataset", metainfo=dict(classes=names)))
    distances = [np.abs(np.subtract(*pair)).sum() for pair in combinations(found.palette, 2)]
    assert min(distances) > 40
