"""The ADE20K half of the generated data: the same scenes as the COCO half."""

import numpy as np
import pytest
from dev.demo_data import (
    CATEGORY_IDS,
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    Plan,
    write_ade20k,
    write_coco,
)
from dev.demo_data.ade20k_format import BACKGROUND, FIRST_CATEGORY, OTHER

cv2 = pytest.importorskip("cv2")
pycocotools_coco = pytest.importorskip("pycocotools.coco")

# Of pycocotools itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLAN = Plan(train=11, val=4, size=96, seed=2)
FOLDERS = {"train": "training", "val": "validation"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert write_coco(folder / "coco", PLAN)
    assert write_ade20k(folder / "ade20k", PLAN)
    return folder


@pytest.fixture(params=FOLDERS)
def split(request):
    return request.param


@pytest.fixture
def coco(root, split):
    return pycocotools_coco.COCO(root / "coco" / "annotations" / f"instances_{split}2017.json")


def read_labels(root, split, number):
    name = f"ADE_{split}_{number:08d}.png"
    path = root / "ade20k" / "annotations" / FOLDERS[split] / name
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_layout(root, split):
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        names = {path.name for path in (root / "ade20k" / kind / FOLDERS[split]).iterdir()}
        numbers = range(1, PLAN.count(split) + 1)
        assert names == {f"ADE_{split}_{number:08d}.{suffix}" for number in numbers}


def test_images_are_those_of_the_twin_byte_for_byte(root, split):
    for number in range(1, PLAN.count(split) + 1):
        name = f"ADE_{split}_{number:08d}.jpg"
        here = root / "ade20k" / "images" / FOLDERS[split] / name
        there = root / "coco" / f"{split}2017" / f"{number:012d}.jpg"
        assert here.read_bytes() == there.read_bytes()


def test_labels_are_those_of_the_scenes(root, split):
    for index in range(PLAN.count(split)):
        labels = read_labels(root, split, index + 1)
        assert labels.dtype == np.uint8
        covered = np.zeros(labels.shape, bool)
        for instance in PLAN.scene(split, index).instances:
            label = OTHER if instance.iscrowd else FIRST_CATEGORY + instance.category
            assert (labels[instance.mask] == label).all()
            covered |= instance.mask
        assert (labels[~covered] == BACKGROUND).all()


def test_labels_agree_with_the_masks_of_the_twin(root, split, coco):
    """Pixel by pixel: where exactly one decoded polygon lies, and away from its rounded rim."""
    for number in sorted(coco.imgs):
        labels = read_labels(root, split, number)
        expected = np.full(labels.shape, BACKGROUND, np.uint8)
        certain = labels != OTHER
        for entry in coco.imgToAnns[number]:
            mask = coco.annToMask(entry)
            thick = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
            certain &= thick == 0
            if entry["iscrowd"]:
                assert (labels[mask > 0] == OTHER).all()
            else:
                label = FIRST_CATEGORY + CATEGORY_IDS.index(entry["category_id"])
                expected[mask > 0] = label
        assert certain.mean() > 0.5
        np.testing.assert_array_equal(labels[certain], expected[certain])


def test_every_label_occurs_and_has_a_name_and_a_colour(root):
    labels = [read_labels(root, "train", number) for number in range(1, PLAN.train + 1)]
    found = set(np.unique(np.concatenate([one.ravel() for one in labels])).tolist())
    assert found == set(range(len(SEGMENTATION_CLASSES) + 1))
    assert len(set(SEGMENTATION_PALETTE)) == len(SEGMENTATION_CLASSES)
