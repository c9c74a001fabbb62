"""The COCO half of the generated data, read back with COCO's own tools."""

import json

import numpy as np
import pytest
from dev.demo_data import CATEGORIES, CATEGORY_IDS, INSTANCE_PALETTE, Plan, write_coco
from dev.demo_data.coco_format import run_lengths

cv2 = pytest.importorskip("cv2")
pycocotools_coco = pytest.importorskip("pycocotools.coco")

# Of pycocotools itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLAN = Plan(train=12, val=4, size=96, seed=1)
SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "coco"
    assert write_coco(folder, PLAN)
    return folder


@pytest.fixture(params=SPLITS)
def split(request):
    return request.param


@pytest.fixture
def coco(root, split):
    return pycocotools_coco.COCO(root / "annotations" / f"instances_{split}2017.json")


def pairs(coco, split):
    """Yields each annotation with the instance of the scene that it was made from."""
    for index, image_id in enumerate(sorted(coco.imgs)):
        instances = PLAN.scene(split, index).instances
        yield from zip(coco.imgToAnns[image_id], instances, strict=True)


def test_layout_and_keys(root, split):
    content = json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())
    assert set(content) == {"info", "licenses", "images", "annotations", "categories"}
    assert len(content["images"]) == PLAN.count(split)
    assert content["images"][0]["file_name"] == "000000000001.jpg"
    assert {entry["id"] for entry in content["categories"]} == set(CATEGORY_IDS)
    assert tuple(entry["name"] for entry in content["categories"]) == CATEGORIES
    for entry in content["annotations"]:
        keys = {"id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd"}
        assert set(entry) == keys
    numbers = [entry["id"] for entry in content["annotations"]]
    assert len(set(numbers)) == len(numbers)


def test_images_have_the_declared_shapes_and_pixels(root, split, coco):
    for index, image_id in enumerate(sorted(coco.imgs)):
        entry = coco.imgs[image_id]
        image = cv2.imread(str(root / f"{split}2017" / entry["file_name"]))[..., ::-1]
        assert image.shape == (entry["height"], entry["width"], 3)
        drawn = PLAN.scene(split, index).image.astype(int)
        assert np.abs(image - drawn).mean() < 8


def test_decoded_masks_agree_with_the_visible_ones(split, coco):
    for entry, instance in pairs(coco, split):
        decoded = coco.annToMask(entry).astype(bool)
        intersection, union = decoded & instance.mask, decoded | instance.mask
        assert intersection.sum() >= (1.0 if instance.iscrowd else 0.9) * union.sum()
        assert entry["category_id"] == CATEGORY_IDS[instance.category]


def test_boxes_enclose_the_masks_exactly_and_areas_agree(split, coco):
    for entry, instance in pairs(coco, split):
        left, top, width, height = map(int, entry["bbox"])
        inside = instance.mask[top : top + height, left : left + width]
        assert inside.sum() == instance.mask.sum() == entry["area"]
        assert inside[0].any() and inside[-1].any()
        assert inside[:, 0].any() and inside[:, -1].any()


def test_crowd_is_there_and_decodes(split, coco):
    crowds = [entry for entry in coco.anns.values() if entry["iscrowd"]]
    assert crowds
    for entry in crowds:
        assert isinstance(entry["segmentation"]["counts"], list)
        assert coco.annToMask(entry).sum() == entry["area"] > 0


def test_an_image_without_objects_is_there(coco):
    assert any(not coco.imgToAnns[image_id] for image_id in coco.imgs)


def test_polygons_are_lists_of_at_least_three_points(coco):
    for entry in coco.anns.values():
        if not entry["iscrowd"]:
            assert entry["segmentation"]
            assert all(len(part) >= 6 and len(part) % 2 == 0 for part in entry["segmentation"])


@pytest.mark.parametrize("first", [False, True])
def test_run_lengths_are_column_major_and_begin_with_zeros(first):
    mask = np.array([[first, True, False], [False, True, True]])
    counts = [0, 1, 1, 2, 1, 1] if first else [2, 2, 1, 1]
    assert run_lengths(mask) == {"size": [2, 3], "counts": counts}


@pytest.mark.parametrize(("value", "counts"), [(False, [6]), (True, [0, 6])])
def test_run_lengths_of_uniform_masks(value, counts):
    assert run_lengths(np.full((2, 3), value))["counts"] == counts


def test_palette_has_a_distinct_colour_for_each_category():
    assert len(set(INSTANCE_PALETTE)) == len(CATEGORIES)
