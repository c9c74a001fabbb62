"""COCO's tools read the detections."""

import json
import os

import numpy as np
import pytest
from pycocotools.coco import COCO

from xcit_dense.predict import Categories, Detections
from xcit_dense.predict.masks.run_lengths import encode_mask
from xcit_dense.predict.writing.coco_file import CocoFile

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


def test_nothing_does_not_replace_earlier_results(tmp_path):
    with CocoFile(tmp_path / "p.json", CATEGORIES) as file:
        file.add("a.jpg", (20, 30), FOUND)
    before = (tmp_path / "p.json").read_bytes()
    with CocoFile(tmp_path / "p.json", CATEGORIES):
        pass
    assert (tmp_path / "p.json").read_bytes() == before
    with CocoFile(tmp_path / "q.json", CATEGORIES):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_a_killed_run_leaves_nothing(tmp_path):
    child = os.fork()
    if not child:
        with CocoFile(tmp_path / "p.json", CATEGORIES) as file:
            file.add("a.jpg", (20, 30), FOUND)
            os._exit(9)
    os.waitpid(child, 0)
    assert not list(tmp_path.iterdir())
