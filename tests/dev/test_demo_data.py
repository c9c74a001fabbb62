"""Laws of the generated scenes, and of the data sets in COCO's format and ADE20K's."""

import cv2
import numpy as np
import pytest
from dev.demo_data.data_set import CATEGORY_IDS, Plan, main, write_ade20k, write_coco
from dev.demo_data.scenes import (
    CATEGORIES,
    draw_large_scene,
    draw_scene,
    draw_side_by_side,
    has_hole,
)
from pycocotools.coco import COCO

# Of pycocotools itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLAN = Plan(train=12, val=4, size=96, seed=1)
FOLDERS = {"train": "training", "val": "validation"}


@pytest.mark.parametrize("size", [(32, 24), (48, 64), (160, 192)])
def test_masks_are_visible_disjoint_and_what_polygons_can_enclose(size):
    for seed in range(12):
        scene = draw_scene(np.random.default_rng(seed), *size, crowded=True)
        assert scene.image.shape == (*size, 3)
        assert scene.image.dtype == np.uint8
        assert np.sum(scene.masks, axis=0).max() == 1
        assert [shape.iscrowd for shape in scene.shapes] == [True, *[False] * len(scene.masks[1:])]
        assert 1 <= len(scene.masks[1:]) <= 4
        for mask in scene.masks[1:]:
            assert mask.sum() >= 16
            assert not has_hole(mask)


@pytest.mark.parametrize("draw", [draw_large_scene, draw_side_by_side])
def test_large_scenes_have_shapes_of_the_size_of_small_ones(draw):
    scene = draw(np.random.default_rng(0), 250, 200, 64)
    assert scene.image.shape == (250, 200, 3)
    assert np.sum(scene.masks, axis=0).max() == 1
    assert 10 <= len(scene.shapes) <= 60
    for shape, mask in zip(scene.shapes, scene.masks, strict=True):
        assert 0 < mask.sum() <= 1.2 * shape.area < 1.2 * np.pi * (0.6 * 64 / 2) ** 2
        assert (mask <= (shape.coverage >= 0.5)).all()


def test_scenes_do_not_depend_on_the_counts_but_on_everything_else():
    image = Plan(train=3, val=3, size=48).scene("train", 0).image
    np.testing.assert_array_equal(Plan(train=9, val=8, size=48).scene("train", 0).image, image)
    others = [(Plan(size=48), "val", 0), (Plan(size=48), "train", 3)]
    others += [(Plan(size=48, seed=1), "train", 0), (Plan(size=49), "train", 0)]
    assert not any(np.array_equal(plan.scene(*which).image, image) for plan, *which in others)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_coco(folder / "coco", PLAN)
    write_ade20k(folder / "ade20k", PLAN)
    return folder


@pytest.mark.parametrize("split", FOLDERS)
def test_annotations_in_cocos_format_are_those_of_the_scenes(root, split):
    coco = COCO(root / "coco" / "annotations" / f"instances_{split}2017.json")
    names = {category["id"]: category["name"] for category in coco.cats.values()}
    assert names == dict(zip(CATEGORY_IDS, CATEGORIES, strict=True))
    assert len(coco.imgs) == getattr(PLAN, split)
    assert not coco.imgToAnns[2]
    assert coco.imgToAnns[3][0]["iscrowd"]
    for number, described in coco.imgs.items():
        scene = PLAN.scene(split, number - 1)
        image = cv2.imread(str(root / "coco" / f"{split}2017" / described["file_name"]))
        assert image.shape == (described["height"], described["width"], 3)
        assert np.abs(image[..., ::-1] - scene.image.astype(int)).mean() < 8
        drawn = zip(coco.imgToAnns[number], scene.shapes, scene.masks, strict=True)
        for annotation, shape, mask in drawn:
            assert annotation["category_id"] == CATEGORY_IDS[shape.category]
            assert annotation["iscrowd"] == shape.iscrowd
            decoded = coco.annToMask(annotation).astype(bool)
            least = 1.0 if shape.iscrowd else 0.9
            assert (decoded & mask).sum() >= least * (decoded | mask).sum()
            left, top, width, height = map(int, annotation["bbox"])
            inside = mask[top : top + height, left : left + width]
            assert inside.sum() == mask.sum() == annotation["area"]
            assert inside[[0, -1]].any(axis=1).all() and inside[:, [0, -1]].any(axis=0).all()


@pytest.mark.parametrize("split", FOLDERS)
def test_files_in_ade20ks_format_are_of_the_same_scenes(root, split):
    images = sorted((root / "ade20k" / "images" / FOLDERS[split]).iterdir())
    labels = sorted((root / "ade20k" / "annotations" / FOLDERS[split]).iterdir())
    assert [path.stem for path in images] == [path.stem for path in labels]
    assert len(images) == getattr(PLAN, split)
    for index, (image, path) in enumerate(zip(images, labels, strict=True)):
        twin = root / "coco" / f"{split}2017" / f"{index + 1:012d}.jpg"
        assert image.read_bytes() == twin.read_bytes()
        scene, found = PLAN.scene(split, index), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        background = found == 1
        for shape, mask in zip(scene.shapes, scene.masks, strict=True):
            assert (found[mask] == (0 if shape.iscrowd else 2 + shape.category)).all()
            background |= mask
        assert background.all()


def test_a_rerun_gives_the_same_and_nothing_foreign_is_replaced(tmp_path):
    arguments = ["--out", str(tmp_path), "--train", "3", "--val", "3", "--size", "32"]

    def content():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    main(arguments)
    before = content()
    assert len(before) == 2 * (1 + 6) + 2 + 6
    (tmp_path / "ade20k" / "images" / "validation" / "ADE_val_00000003.jpg").unlink()
    main(arguments)
    assert content() == before
    with pytest.raises(SystemExit, match=r"coco.*remove it"):
        main([*arguments, "--seed", "5"])
    (tmp_path / "coco" / "generated.json").unlink()
    with pytest.raises(SystemExit, match=r"coco.*remove it"):
        main(arguments)
    assert content().items() < before.items()


@pytest.mark.parametrize(
    "arguments", [["--train", "-1"], ["--val", "2"], ["--size", "31"], ["--seed", "-1"]]
)
def test_the_tool_refuses_values_that_are_too_small(arguments):
    with pytest.raises(SystemExit, match=f"{arguments[0][2:]} must be at least"):
        main(arguments)
