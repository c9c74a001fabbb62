"""What is written can be read by the tools of others, with the numbers that they know."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xcit_dense.errors import UserError
from xcit_dense.predict import Categories, Detections, SegmentationMap
from xcit_dense.predict.inputs import InputImage
from xcit_dense.predict.outputs import (
    Annotations,
    Outputs,
    category_ids,
    write_label_map,
    write_picture,
)
from xcit_dense.predict.results import encode_mask

CATEGORIES = Categories(("one", "two"), ((250, 0, 0), (0, 0, 250)))
PIXELS = np.full((50, 90, 3), 128, np.uint8)
MASK = np.zeros((50, 90), bool)
MASK[10:30, 40:60] = True


def found(label=1):
    boxes = np.array([[40, 10, 60.5, 30]], np.float32)
    return Detections(boxes, np.array([label]), np.array([0.75]), [encode_mask(MASK)])


def write(folder, files, results, annotations=None):
    outputs = Outputs(folder / "out", CATEGORIES, files, annotations)
    for file, result in zip(files, results, strict=True):
        outputs.write(InputImage(file, str(file), file.stem, PIXELS), result)
    outputs.finish()


def test_coco_reads_what_is_written(tmp_path):
    files = [tmp_path / name for name in ["x/a.jpg", "x/y/b.jpg", "x/c.jpg"]]
    nothing = Detections(np.empty((0, 4)), np.empty(0, int), np.empty(0), [])
    write(tmp_path, files, [found(), nothing, found(0)])
    coco = COCO(tmp_path / "out/predictions.json")
    assert [image["file_name"] for image in coco.imgs.values()] == ["a.jpg", "y/b.jpg", "c.jpg"]
    assert [category["name"] for category in coco.cats.values()] == ["one", "two"]
    first, last = coco.loadAnns(coco.getAnnIds())
    assert (first["image_id"], last["image_id"]) == (1, 3)
    assert (first["category_id"], last["category_id"]) == (2, 1)
    assert first["bbox"] == [40, 10, 20.5, 20]
    assert (first["area"], first["score"]) == (400, 0.75)
    assert np.array_equal(coco.annToMask(first), MASK)
    assert len(list((tmp_path / "out/pictures").iterdir())) == 3


def test_a_segmentation_is_a_label_map_and_leaves_an_older_json(tmp_path):
    write(tmp_path, [tmp_path / "a.jpg"], [found()])
    before = (tmp_path / "out/predictions.json").read_bytes()
    labels = np.random.default_rng(0).integers(0, 2, (50, 90))
    write(tmp_path, [tmp_path / "b.jpg"], [SegmentationMap(labels)])
    assert (tmp_path / "out/predictions.json").read_bytes() == before
    picture = Image.open(tmp_path / "out/labels/b.png")
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), labels)
    assert np.array_equal(picture.convert("RGB"), np.array(CATEGORIES.palette)[labels])


def test_numbers_of_categories():
    from mmdet.datasets import CocoDataset

    numbers = category_ids(CocoDataset.METAINFO["classes"])
    named = dict(zip(CocoDataset.METAINFO["classes"], numbers, strict=True))
    assert (named["person"], named["stop sign"], named["toothbrush"]) == (1, 13, 90)
    assert category_ids(("one", "two")) == [1, 2]


def save_annotations(folder, form=str, names=("x/a.jpg", "y/a.jpg", "b.jpg"), categories=None):
    square = [40, 10, 40, 30, 60, 30, 60, 10]
    shared = {"bbox": [40, 10, 20, 20], "area": 400, "iscrowd": 0, "segmentation": [square]}
    content = {
        "images": [
            {"id": form(70 - number), "file_name": name, "height": 50, "width": 90}
            for number, name in enumerate(names)
        ],
        "categories": [
            {"id": number, "name": name}
            for name, number in categories or [("two", 9), ("three", 5), ("one", 7)]
        ],
        "annotations": [
            {"id": 1, "image_id": form(69), "category_id": 9, **shared},
            {"id": 2, "image_id": form(68), "category_id": 7, **shared},
        ],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", [int, str, "image_{}".format], ids=["int", "str", "text"])
def test_predictions_are_scored_as_they_are(tmp_path, form):
    """Those that equal the annotations have full marks, also of masks by size."""
    path = save_annotations(tmp_path, form)
    files = [tmp_path / name for name in ["data/b.jpg", "data/y/a.jpg", "data/z/a.jpg"]]
    annotations = Annotations(path, files)
    assert list(annotations.images) == files[:2]
    write(tmp_path, files, [found(0), found(1), found(1)], annotations)
    truth, results = COCO(path), COCO(tmp_path / "out/predictions.json")
    assert {image["id"] for image in results.imgs.values()} == {form(68), form(69)}
    assert results.imgs[form(69)]["file_name"] == "y/a.jpg"
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(truth, results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] > 0.99
        assert evaluation.stats[3] > 0.99  # small ones; here all are


@pytest.mark.parametrize("name", ["../images/a.jpg", "..\\images\\a.jpg", "/images/a.jpg"])
def test_paths_of_annotated_images_in_other_forms(tmp_path, name):
    path = save_annotations(tmp_path, names=(name,))
    files = [tmp_path / "images/a.jpg", tmp_path / "a.jpg"]
    assert Annotations(path, files).images == {files[0]: {"id": "70", "file_name": name}}


@pytest.mark.parametrize(
    ("files", "names", "message"),
    [
        (["z/a.jpg"], ["b.jpg"], r"not in it.*z/a\.jpg"),
        (["x/b.jpg", "y/b.jpg"], ["b.jpg"], r"x/b\.jpg and .*y/b\.jpg|y/b\.jpg and .*x/b\.jpg"),
    ],
)
def test_images_that_are_none_or_two_are_errors(tmp_path, files, names, message):
    path = save_annotations(tmp_path, names=names)
    with pytest.raises(UserError, match=message):
        Annotations(path, [tmp_path / file for file in files])


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([("one", 1), ("Two", 2)], r"'two'.* one, Two"),
        ([("one", 0), ("two", 1), ("one", 2)], r"two categories \[0, 2\].*'one'"),
    ],
)
def test_classes_need_one_category_each(tmp_path, categories, message):
    path, files = save_annotations(tmp_path, categories=categories), [tmp_path / "b.jpg"]
    with pytest.raises(UserError, match=message):
        Outputs(tmp_path, CATEGORIES, files, Annotations(path, files))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"images": []}', '{"images": [{}]}'])
def test_other_files_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"--annotations .*a\.json"):
        Annotations(tmp_path / "a.json", [tmp_path / "b.jpg"])


def test_pictures_of_any_size_and_label_maps_of_any_class(tmp_path):
    write_picture(tmp_path / "new" / "a.jpg", np.zeros((2, 66_000, 3), np.uint8))
    assert Image.open(tmp_path / "new" / "a.jpg").size == (65_500, 2)
    many = Categories(("c",) * 300, ((0, 0, 0),) * 300)
    labels = np.arange(300).reshape(20, 15)
    for number, categories in enumerate([many, None]):
        path = tmp_path / f"{number}.png"
        write_label_map(path, labels, categories)
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), labels)
    write_label_map(tmp_path / "few.png", labels % 256)
    assert Image.open(tmp_path / "few.png").mode == "L"
