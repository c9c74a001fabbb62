"""COCO's tools read the detections, any viewer the segmentations."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from xcit_dense.openmmlab.prediction import Categories, Detections, SegmentationMap
from xcit_dense.openmmlab.prediction.run_lengths import encode_mask
from xcit_dense.openmmlab.prediction.writers import CocoFile, category_ids, write_label_map

CATEGORIES = Categories(("one", "two"), ((250, 0, 0), (0, 0, 250)))
MASK = np.zeros((20, 30), bool)
MASK[5:9, 7:12] = True
FOUND = Detections(
    np.array([[7, 5, 12, 9]], np.float32), np.array([1]), np.array([0.75]), [encode_mask(MASK)]
)
NOTHING = Detections(np.empty((0, 4)), np.empty(0, int), np.empty(0), [])


def test_coco_reads_what_is_written(tmp_path):
    with CocoFile(tmp_path / "new" / "p.json", CATEGORIES) as file:
        file.add("a.jpg", (20, 30), FOUND)
        file.add("b.jpg", (4, 4), NOTHING)
        file.add("c.jpg", (20, 30), FOUND)
    coco = COCO(tmp_path / "new" / "p.json")
    assert [coco.imgs[number]["file_name"] for number in (1, 2, 3)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(coco.anns) == 2
    (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=[3]))
    assert annotation["bbox"] == [7, 5, 5, 4]
    assert (annotation["area"], annotation["score"]) == (20, 0.75)
    assert coco.cats[annotation["category_id"]]["name"] == "two"
    assert np.array_equal(coco.annToMask(annotation), MASK)


def test_the_annotations_are_results_for_the_evaluation(tmp_path):
    with CocoFile(tmp_path / "p.json", CATEGORIES) as file:
        file.add("a.jpg", (20, 30), FOUND)
    coco = COCO(tmp_path / "p.json")
    content = json.loads((tmp_path / "p.json").read_text())
    assert len(coco.loadRes(content["annotations"]).anns) == 1


def test_an_error_on_the_way_leaves_a_whole_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), CocoFile(tmp_path / "p.json", CATEGORIES) as file:
        file.add("a.jpg", (20, 30), FOUND)
        raise KeyboardInterrupt
    assert len(json.loads((tmp_path / "p.json").read_text())["annotations"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_numbers_of_categories():
    from mmdet.datasets import CocoDataset

    numbers = category_ids(CocoDataset.METAINFO["classes"])
    assert len(numbers) == 80
    named = dict(zip(CocoDataset.METAINFO["classes"], numbers, strict=True))
    assert (named["person"], named["stop sign"], named["toothbrush"]) == (1, 13, 90)
    assert (named["backpack"], named["dining table"], named["tv"]) == (27, 67, 72)
    assert category_ids(("one", "two")) == [1, 2]


def test_label_maps_keep_the_labels_and_show_the_colours(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (20, 30))
    write_label_map(tmp_path / "new" / "a.png", SegmentationMap(labels), CATEGORIES)
    picture = Image.open(tmp_path / "new" / "a.png")
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), labels)
    assert np.array_equal(picture.convert("RGB"), np.array(CATEGORIES.palette)[labels])


def test_more_classes_than_colours_are_refused(tmp_path):
    many = Categories(("c",) * 300, ((0, 0, 0),) * 300)
    with pytest.raises(ValueError, match="300 classes: an indexed PNG has at most 256"):
        write_label_map(tmp_path / "a.png", SegmentationMap(np.zeros((2, 2))), many)
