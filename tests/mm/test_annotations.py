"""Annotation files are checked before compiled code reads them; labels go by name."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from pycocotools import mask as coco_masks

from xcit_dense.errors import UserError
from xcit_dense.mm import annotations
from xcit_dense.mm.annotations import read_annotations_safely
from xcit_dense.mm.coco_checks import check_coco, run_lengths

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
CONTENT = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "annotations": [
        {
            "id": 7, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400,
            "iscrowd": 0, "segmentation": [SQUARE],
        }
    ],
}  # fmt: skip


def changed(*changes):
    """The content with values put at paths such as ``annotations.0.bbox``; None takes away."""
    content = copy.deepcopy(CONTENT)
    for path, value in changes:
        *outer, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        node = content
        for key in outer:
            node = node[key]
        if value is None:
            del node[last]
        else:
            node[last] = value
    return content


def lengths_of(size, counts):
    return {"size": size, "counts": counts}


OBJECT = "annotations.0"
FAULTS = [
    ("images", None, "no images"),
    ("images", [], "no images"),
    ("annotations", {}, "'annotations' must be a list"),
    ("images.0", 5, "images[0]: 5"),
    ("images.0.id", [1], "a whole number or a text"),
    ("categories.0.id", 2**63, "64 bits"),
    ("images.0.width", 0, "width 0"),
    ("images.0.width", 1e9, "2^31"),
    ("images.0.height", math.nan, "height nan"),
    ("images.0.height", "480", "height '480'"),
    ("images.0.file_name", 3, "file_name 3"),
    ("images", [CONTENT["images"][0]] * 2, "another one has this id"),
    ("categories.1.id", 1, "another one has this id"),
    ("categories.0.name", None, "has no 'name': categories[0] (id 1)"),
    (f"{OBJECT}.id", None, "has no 'id': annotations[0]"),
    ("annotations", [CONTENT["annotations"][0]] * 2, "another one has this id"),
    (f"{OBJECT}.image_id", "1", "image_id is the id of none...image_id '1'"),
    (f"{OBJECT}.category_id", 3, "category_id is the id of none...category_id 3"),
    (f"{OBJECT}.bbox", None, "has no 'bbox': annotations[0] (id 7)"),
    (f"{OBJECT}.bbox", [1, 2, 3], "bbox [1, 2, 3]"),
    (f"{OBJECT}.bbox", [1, 2, math.nan, 4], "bbox [1, 2, nan, 4]"),
    (f"{OBJECT}.bbox", [1, 2, 10**400, 4], "id 7"),
    (f"{OBJECT}.bbox", [0, 0, 1e12, 1e12], "far outside"),
    (f"{OBJECT}.bbox", [True] * 4, "bbox [True"),
    (f"{OBJECT}.image_id", [1], "image_id [1]"),
    (f"{OBJECT}.iscrowd", "0", "iscrowd '0'"),
    (f"{OBJECT}.area", math.inf, "area inf"),
    (f"{OBJECT}.segmentation", [], "no segmentation"),
    (f"{OBJECT}.segmentation", [[1, 2, 3, 4]], "three points"),
    (f"{OBJECT}.segmentation", [[*SQUARE, 5]], "three points"),
    (f"{OBJECT}.segmentation", [[*SQUARE, 1e12, 0]], "far outside"),
    (f"{OBJECT}.segmentation", [[*SQUARE, math.inf, 0]], "id 7"),
    (f"{OBJECT}.segmentation", "polygon", "a list of polygons"),
    (f"{OBJECT}.segmentation", SQUARE, "a list of polygons"),
    (f"{OBJECT}.segmentation", lengths_of([48, 64], None), "counts None"),
    (f"{OBJECT}.segmentation", lengths_of([10**9, 10**9], "04"), "size [1000000000, 1000000000]"),
    (f"{OBJECT}.segmentation", lengths_of([48, 64], [3072, 10**12]), "3072"),
    (f"{OBJECT}.segmentation", lengths_of([48, 64], [4000, -928]), "0 or more"),
    (f"{OBJECT}.segmentation", lengths_of([48, 64], 10**10), "id 7"),
    (f"{OBJECT}.segmentation", lengths_of([48, 64], "o" * 9), "damaged"),
    (f"{OBJECT}.segmentation", lengths_of([48, 64], "o" * 9 + "0"), "too large"),
    (f"{OBJECT}.segmentation", lengths_of([48, 64], "0\0"), "damaged"),
]


@pytest.mark.parametrize(("path", "value", "named"), FAULTS)
def test_what_cannot_be_used_is_refused_by_name(path, value, named):
    (finding,) = check_coco(changed((path, value)))
    assert finding.is_wrong and finding.remedy
    assert all(part in finding.text for part in named.split("..."))


def test_all_faults_are_counted():
    content = changed(("categories.0.name", 5), ("categories.1.name", 5))
    (names,) = check_coco(content)
    assert "2 of 2 categories" in names.text
    assert names.text.endswith("categories[0] (id 1): name 5, categories[1] (id 2): name 5")
    content = changed((f"{OBJECT}.bbox", [1]))
    content["annotations"] *= 6
    (boxes,) = check_coco(content)
    assert "6 of 6 annotations" in boxes.text
    assert boxes.text.endswith("annotations[2] (id 7): bbox [1] and 3 more")


@pytest.mark.parametrize("area", [0, None])
def test_what_exporters_leave_out_is_completed(area):
    content = changed(
        (f"{OBJECT}.area", area), (f"{OBJECT}.iscrowd", None), ("images.0.width", 64.0)
    )
    (finding,) = check_coco(content)
    assert not finding.is_wrong and "1 of 1 annotations have no area" in finding.text
    found = content["annotations"][0]
    assert found["area"] == 400 and found["iscrowd"] == 0
    assert content["images"][0]["width"] == 64
    assert check_coco(content) == []


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("bbox", [10, 10, -5, 5], "corners are swapped: mmdet leaves them out"),
        ("bbox", [10, 10, 0.5, 5], "smaller than a pixel, or outside"),
        ("bbox", [100, 10, 20, 20], "smaller than a pixel, or outside"),
        ("bbox", [50, 10, 20, 20], "a box or a polygon that reaches out of its image"),
        (
            "segmentation",
            [[10, 10, 70, 10, 10, 30]],
            "a box or a polygon that reaches out of its image",
        ),
    ],
)
def test_what_is_doubtful_is_counted(key, value, named):
    (finding,) = check_coco(changed((f"{OBJECT}.{key}", value)))
    assert not finding.is_wrong and finding.remedy
    assert named in finding.text and finding.text.endswith(": annotations[0] (id 7)")


@pytest.mark.parametrize("identity", [0, "a"])
def test_objects_get_numbers_that_evaluation_counts(identity):
    """COCO's evaluation takes the id 0 for no object."""
    content = changed((f"{OBJECT}.id", identity))
    content["annotations"].append({**content["annotations"][0], "id": 5})
    check_coco(content)
    assert [record["id"] for record in content["annotations"]] == [1, 2]


def test_test_sets_have_no_annotations():
    assert check_coco(changed(("annotations", None))) == []


def test_masks_are_looked_at_only_where_they_are_read():
    assert check_coco(changed((f"{OBJECT}.segmentation", None)), with_masks=False) == []


def test_run_lengths_are_decoded_as_pycocotools_does():
    generator = np.random.default_rng(0)
    for _ in range(50):
        height, width = map(int, generator.integers(1, 300, 2))
        mask = generator.random((height, width)) < generator.random()
        encoded = coco_masks.encode(np.asfortranarray(mask, np.uint8))
        lengths = run_lengths(encoded["counts"].decode())
        assert sum(lengths) == height * width
        again = coco_masks.frPyObjects(lengths_of([height, width], lengths), height, width)
        assert again == encoded


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(annotations, "print_log", lambda line, **_: lines.append(line))
    annotations._warn_once.cache_clear()
    for name in ("__init__", "get_cat_ids"):  # taken back afterwards
        monkeypatch.setattr(COCO, name, getattr(COCO, name))
    monkeypatch.setattr(COCO, "createIndex", COCO.createIndex, raising=False)
    read_annotations_safely(
        Config({"default_scope": "mmdet", "val_evaluator": {"metric": ["bbox", "segm"]}})
    )
    return lines


def read(folder, classes, content):
    (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return CocoDataset(
        f"{folder}/a.json",
        metainfo={"classes": classes},
        data_prefix={"img": ""},
        pipeline=[],
        serialize_data=False,
    )


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[" * 100_000, json.dumps(changed((f"{OBJECT}.bbox", [math.nan] * 4)))],
)
def test_a_data_set_names_the_file_that_it_cannot_use(tmp_path, warnings, content):
    with pytest.raises(UserError, match=r"a\.json: "):
        read(tmp_path, ("a", "b"), content)


def with_categories(*categories):
    named = [{"id": number, "name": name} for name, number in categories]
    return changed(("categories", named), ("annotations", []))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("classes", [("a", "b"), ("b", "a")])
def test_labels_are_numbered_by_name(tmp_path, warnings, classes, order):
    numbers = {"a": 1, "b": 2}
    content = with_categories(*list(numbers.items())[::order])
    assert read(tmp_path, classes, content).cat_ids == [numbers[name] for name in classes]
    in_order = list(classes) == list(numbers)[::order]
    assert bool(warnings) != in_order
    assert all("order" in line and ", ".join(classes) in line for line in warnings)


@pytest.mark.parametrize("processes", [False, True])
def test_scores_by_class_have_the_name_of_their_class(tmp_path, warnings, processes):
    other = {**CONTENT["annotations"][0], "id": 8, "category_id": 2}
    content = changed(("annotations", [CONTENT["annotations"][0], other]))
    read(tmp_path, ("b", "a"), content)
    metric = CocoMetric(
        str(tmp_path / "a.json"), metric="bbox", classwise=True, use_mp_eval=processes
    )
    metric.dataset_meta = {"classes": ("b", "a")}
    found = {
        "bboxes": torch.tensor([[10.0, 10, 30, 30]]),
        "scores": torch.ones(1),
        "labels": torch.tensor([1]),
    }
    metric.process({}, [{"img_id": 1, "ori_shape": (48, 64), "pred_instances": found}])
    scores = metric.evaluate(1)
    assert (scores["coco/a_precision"], scores["coco/b_precision"]) == (1, 0)


def test_categories_that_are_no_class_are_named(tmp_path, warnings):
    assert read(tmp_path, ["b"], with_categories(("a", 1), ("b", 2))).cat_ids == [2]
    assert len(warnings) == 1 and "left out: a" in warnings[0]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([("a", 1), ("B", 2)], "no category .*'b'.* there are a, B"),
        ([("a", 1), ("b", 0), ("b", 2)], r"two categories \[0, 2\] .*'b'"),
    ],
)
def test_a_class_is_one_category(tmp_path, warnings, categories, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, ("a", "b"), with_categories(*categories))


def test_one_text_is_no_list_of_classes(tmp_path, warnings):
    with pytest.raises(UserError, match=r"'cat' is one text.*classes=\('cat',\)"):
        read(tmp_path, "cat", with_categories(("cat", 1)))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_a_mark_of_utf_8_is_passed_over_and_other_encodings_are_named(tmp_path, warnings, encoding):
    content, path = changed(("categories.0.name", "gro\u00df")), tmp_path / "a.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    if encoding == "utf-8-sig":
        assert COCO(str(path)).dataset == content == annotations.read_json(path)
        return
    for read_file in (COCO, annotations.read_json):
        with pytest.raises(UserError, match=r"^\S+a\.json: is no [^:]*: .*\): save it as UTF-8$"):
            read_file(str(path))
