"""Labels go by the names of a config's classes, whatever the order of the annotation file."""

import json

import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from xcit_dense.errors import UserError
from xcit_dense.mm import category_order


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(category_order, "print_log", lambda line, **_: lines.append(line))
    monkeypatch.setattr(COCO, "get_cat_ids", COCO.get_cat_ids)  # taken back afterwards
    category_order.number_labels_by_name()
    return lines


def category_numbers(folder, classes, *categories):
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [],
        "categories": [{"id": number, "name": name} for name, number in categories],
    }
    (folder / "a.json").write_text(json.dumps(content))
    dataset = CocoDataset(
        f"{folder}/a.json",
        metainfo={"classes": classes},
        data_prefix={"img": ""},
        pipeline=[],
        serialize_data=False,
    )
    return dataset.cat_ids


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("classes", [("a", "b"), ("b", "a"), ["b"]])
def test_labels_are_numbered_by_name(tmp_path, warnings, classes, order):
    numbers = {"a": 1, "b": 2}
    found = category_numbers(tmp_path, classes, *list(numbers.items())[::order])
    assert found == [numbers[name] for name in classes]
    in_order = list(classes) == [name for name in list(numbers)[::order] if name in classes]
    assert bool(warnings) != in_order
    assert all("order" in line and ", ".join(classes) in line for line in warnings)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([("a", 1), ("B", 2)], "'b'.* there are a, B"),
        ([("a", 1), ("b", 0), ("b", 2)], "'b'"),
    ],
)
def test_a_class_is_one_category(tmp_path, warnings, categories, message):
    with pytest.raises(UserError, match=message):
        category_numbers(tmp_path, ("a", "b"), *categories)
