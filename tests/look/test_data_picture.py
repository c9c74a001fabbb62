"""The picture of a data set shows its numbers, and annotations where they are."""

import numpy as np
import pytest
from matplotlib.text import Text
from mmengine.registry import DefaultScope
from PIL import Image

from xcit_dense.data.data_sets import DataSet
from xcit_dense.data.pixels import Amounts, check_pixels
from xcit_dense.look.data_picture import choose_images, draw_data_set
from xcit_dense.predict.results import encode_mask

NAMES = ("ship", "buoy")
SQUARE = [[100, 50, 200, 50, 200, 150, 100, 150]]


def grey(path, **options):
    Image.new("RGB", (400, 200), "grey").save(path, **options)


def coco(folder, *records, names=NAMES):
    """A data set of one image, whose objects are squares."""
    grey(folder / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 400, "height": 200}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": 1, "bbox": [100, 50, 100, 100], "iscrowd": 0,
             "category_id": 0, "segmentation": SQUARE, **record}
            for number, record in enumerate(records, start=1)
        ],
    }  # fmt: skip
    node = {"type": "CocoDataset", "ann_file": "a $.json", "metainfo": {"classes": names}}
    return DataSet("train", "", {**node, "data_root": str(folder)}, content)


def drawn(data_set, scope="mmdet"):
    """The texts of the picture of a data set, and its images in blue, green, red."""
    with DefaultScope.overwrite_default_scope(scope):
        figure = draw_data_set(data_set, check_pixels(data_set)[1])
    figure.draw_without_rendering()
    images = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    return {text.get_text() for text in figure.findobj(Text)}, images


def tints(image, row, columns):
    """Whether places, in red, green, blue, are grey, or tinted in a colour."""
    places = image[row, list(columns)].astype(int)
    return [np.ptp(place) > 30 for place in places]


def test_every_class_is_on_the_sheet_if_there_is_room():
    labels = np.zeros(2000, int)
    labels[[400, 401, 888]] = 1, 1, 2
    amounts = Amounts(np.repeat(np.arange(1000), 2), labels, np.ones(2000, int), np.empty((0, 2)))
    chosen = choose_images(amounts, 1000)
    assert len(set(chosen)) == 12 and {200, 444} <= set(chosen)
    assert chosen == choose_images(amounts, 1000)
    one = Amounts(np.array([3]), np.array([0]), np.array([1]), np.empty((0, 2)))
    assert sorted(choose_images(one, 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["polygon", "run lengths", "compressed"])
def test_masks_are_drawn_where_they_are(tmp_path, kind):
    square = np.zeros((200, 400), bool)
    square[50:150, 100:200] = True
    counts = [100 * 200 + 50, *[100, 100] * 99, 100, 200 * 200 + 50]
    outlines = {"polygon": SQUARE, "run lengths": {"size": [200, 400], "counts": counts}}
    compressed = encode_mask(square)
    outlines["compressed"] = {**compressed, "counts": compressed["counts"].decode()}
    _, (image,) = drawn(coco(tmp_path, {"segmentation": outlines[kind]}))
    assert tints(image, 100, (50, 110, 150, 190, 220)) == [False, True, True, True, False]


def test_numbers_of_objects_are_shown(tmp_path):
    small = {"bbox": [100, 50, 4, 4]}
    texts, _ = drawn(coco(tmp_path, {}, {}, small, {"iscrowd": 1}))
    for wanted in (
        f"train: {tmp_path}/a $.json", "ship", " 3 in 1 image", "not there (1): buoy",
        "3 objects, 33% below 8 pixels", "1 images, sides of 200 to 400 pixels",
    ):  # fmt: skip
        assert wanted in texts


def test_of_many_classes_the_frequent_and_the_rare_are_named(tmp_path):
    names = tuple(f"class {number} of a long name that goes on" for number in range(60))
    records = [{"category_id": label} for label in range(60) for _ in range(1 + (label < 20))]
    texts, _ = drawn(coco(tmp_path, *records, names=names))
    shown = {int(text.split()[1]) for text in texts if text.startswith("class ")}
    assert {*range(20), *range(40, 60)} <= shown
    assert "objects of each class,\nthe most frequent and rarest of 60" in texts


def test_what_is_not_there_or_cannot_be_read_is_said(tmp_path):
    data_set = coco(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"none")
    texts, images = drawn(data_set)
    assert {"not there (2): ship, buoy", "cannot be read"} <= texts and not images


@pytest.mark.parametrize(("is_reduced", "wanted"), [(True, [0, 1, 1, 0]), (False, [1, 1, 0, 0])])
def test_label_maps_are_drawn_as_training_sees_them(tmp_path, is_reduced, wanted):
    (tmp_path / "images").mkdir()
    grey(tmp_path / "images/a.jpg")
    labels = np.zeros((200, 400), np.uint8)
    labels[:, 100:200], labels[:, 200:300], labels[:, 300:] = 1, 2, 255
    Image.fromarray(labels).save(tmp_path / "a.png")
    node = {"type": "BaseSegDataset", "data_root": str(tmp_path), "metainfo": {"classes": NAMES}}
    node |= {"data_prefix": {"img_path": "images"}, "reduce_zero_label": is_reduced}
    texts, (image,) = drawn(DataSet("train", "", node), "mmseg")
    assert tints(image, 150, (50, 150, 250, 350)) == [bool(each) for each in wanted]
    assert {" 50.00% in 1 image", "1 images, sides of 200 to 400 pixels"} <= texts
