"""Predictions get the numbers that an evaluation knows."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xcit_dense.errors import UserError
from xcit_dense.predict import Categories, Detections
from xcit_dense.predict.masks.run_lengths import encode_mask
from xcit_dense.predict.writing.coco_file import CocoFile
from xcit_dense.predict.writing.coco_numbers import AnnotatedNumbers, CocoNumbers, category_ids


def test_numbers_of_categories():
    from mmdet.datasets import CocoDataset

    numbers = category_ids(CocoDataset.METAINFO["classes"])
    assert len(numbers) == 80
    named = dict(zip(CocoDataset.METAINFO["classes"], numbers, strict=True))
    assert (named["person"], named["stop sign"], named["toothbrush"]) == (1, 13, 90)
    assert (named["backpack"], named["dining table"], named["tv"]) == (27, 67, 72)
    assert category_ids(("one", "two")) == [1, 2]


def test_images_are_counted():
    numbers = CocoNumbers(("one", "two"))
    assert [numbers.of_image("a.jpg"), numbers.of_image("a.jpg")] == [1, 2]


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "annotations.json"
    images = [("x/a.jpg", 70), ("y/a.jpg", 30), ("b.jpg", 90)]
    square = [40, 10, 40, 30, 60, 30, 60, 10]
    content = {
        "images": [
            {"id": number, "file_name": name, "height": 50, "width": 90} for name, number in images
        ],
        "categories": [
            {"id": number, "name": name} for number, name in [(9, "two"), (5, "three"), (7, "one")]
        ],
        "annotations": [
            {"id": 1, "image_id": 30, "category_id": 9, "bbox": [40, 10, 20, 20], "area": 400,
             "iscrowd": 0, "segmentation": [square]},
            {"id": 2, "image_id": 90, "category_id": 7, "bbox": [40, 10, 20, 20], "area": 400,
             "iscrowd": 0, "segmentation": [square]},
        ],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_numbers_of_a_file_of_annotations(annotations):
    numbers = AnnotatedNumbers(annotations, ("one", "two"))
    assert numbers.categories == [7, 9]
    sources = ["/data/y/a.jpg", "/data/b.jpg", "/data/z/a.jpg", "/data/x/a.jpg", "/more/b.jpg"]
    assert [numbers.of_image(source) for source in sources] == [30, 90, 91, 70, 92]


def test_predictions_are_scored_as_they_are(annotations, tmp_path):
    """Those that equal the annotations have full marks."""
    mask = np.zeros((50, 90), bool)
    mask[10:30, 40:60] = True
    categories = Categories(("one", "two"), ((0, 0, 0),) * 2)
    with CocoFile(
        tmp_path / "p.json", categories, AnnotatedNumbers(annotations, categories.names)
    ) as file:
        for source, label in [("/data/b.jpg", 0), ("/data/y/a.jpg", 1)]:
            boxes = np.array([[40.0, 10, 60, 30]])
            found = Detections(boxes, np.array([label]), np.array([0.9]), [encode_mask(mask)])
            file.add(source, (50, 90), found)
    truth = COCO(annotations)
    results = truth.loadRes(json.loads((tmp_path / "p.json").read_text())["annotations"])
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(truth, results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)


def test_a_class_without_a_category_is_an_error(annotations):
    expected = r"has no category 'four', which the model predicts; it has one, three, two"
    with pytest.raises(UserError, match=expected):
        AnnotatedNumbers(annotations, ("one", "four"))


@pytest.mark.parametrize("content", ["{", "[]", '{"images": []}', '{"images": [{}]}'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"a\.json is no data set in COCO's format"):
        AnnotatedNumbers(path, ("one",))


def test_missing_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"annotations .*none\.json do not exist"):
        AnnotatedNumbers(tmp_path / "none.json", ("one",))
