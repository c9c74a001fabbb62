"""The picture of a data set shows its numbers, and annotations where they are."""

import numpy as np
import pytest
from matplotlib.text import Text
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from xcit_dense.data.contact_sheet import (
    annotated_map,
    annotated_objects,
    choose_images,
    draw_sheet,
)
from xcit_dense.data.picture import draw_data_set
from xcit_dense.predict.results import Categories, encode_mask

RED, BLUE = (255, 0, 0), (0, 0, 255)
CATEGORIES = Categories(("ship", "buoy"), (RED, BLUE))
SQUARE = [[100, 50, 200, 50, 200, 150, 100, 150]]


def grey(path, width=400, height=200, **options):
    Image.new("RGB", (width, height), "grey").save(path, **options)
    return path


def record(category=7, bbox=(100, 50, 100, 100), **more):
    return {"category_id": category, "bbox": list(bbox), **more}


def is_tinted(colour):
    """Whether a pixel, in blue, green, red, is grey that was tinted red or blue."""
    return "red" if colour[2] > colour[0] + 50 else "blue" if colour[0] > colour[2] + 50 else ""


def test_every_class_is_on_the_sheet_if_there_is_room():
    images = np.repeat(np.arange(1000), 2)
    labels = np.zeros(2000, int)
    labels[[400, 401, 888]] = 1, 1, 2
    labels[10] = -1
    chosen = choose_images(images, labels, 1000)
    assert len(set(chosen)) == 12 and {200, 444} <= set(chosen)
    assert chosen == choose_images(images, labels, 1000)
    assert len(set(choose_images(np.arange(300), np.arange(300), 300))) == 12


def test_images_without_a_class_fill_the_sheet():
    assert sorted(choose_images(np.array([3]), np.array([0]), 5)) == [0, 1, 2, 3, 4]
    assert sorted(choose_images(np.array([], int), np.array([], int), 2)) == [0, 1]


@pytest.mark.parametrize(
    "outline",
    [
        SQUARE,
        {"size": [200, 400], "counts": [100 * 200 + 50, *[100, 100] * 99, 100, 200 * 200 + 50]},
        {"size": [200, 400], "counts": None},
    ],
    ids=["polygon", "run lengths", "compressed"],
)
@pytest.mark.parametrize("factor", [1, 0.5, 10], ids=["whole", "smaller file", "larger file"])
def test_masks_are_drawn_where_they_are(tmp_path, outline, factor):
    if isinstance(outline, dict) and not outline["counts"]:
        square = np.zeros((200, 400), bool)
        square[50:150, 100:200] = 1
        outline = encode_mask(square)
    file = grey(tmp_path / "a.png", int(400 * factor), int(200 * factor))
    image = annotated_objects(file, (200, 400), [record(segmentation=outline)], {7: 0})
    sheet = draw_sheet([image], CATEGORIES, 400)
    for y in range(4, 200, 10):
        for x in range(4, 400, 10):
            inside = 50 <= y < 150 and 100 <= x < 200
            if y >= 50 or not 90 < x < 140:  # where the name stands
                assert (is_tinted(sheet[y, x]) == "red") is inside, (x, y)


def test_masks_of_large_images_are_made_small(tmp_path):
    image = annotated_objects(
        tmp_path / "a.png", (20_000, 40_000),
        [record(bbox=(10_000, 5000, 10_000, 10_000), segmentation=[[100 * v for v in SQUARE[0]]])],
        {7: 0},
    )  # fmt: skip
    truth, size = image.truth()
    assert size == (500, 1000)
    assert truth.boxes.tolist() == [[250, 125, 500, 375]]
    assert truth.masks[0]["size"] == [500, 1000]


def test_crowds_and_other_categories_are_left_out(tmp_path):
    records = [record(7), record(8), record(9), record(7, iscrowd=1)]
    truth, _ = annotated_objects(tmp_path / "a.png", (200, 400), records, {7: 0, 9: 1}).truth()
    assert truth.labels.tolist() == [0, 1] and truth.masks is None


def test_label_maps_are_drawn_as_training_sees_them(tmp_path):
    file, labels = grey(tmp_path / "a.jpg"), np.zeros((200, 400), np.uint8)
    labels[:, 100:200], labels[:, 200:300], labels[:, 300:] = 1, 2, 255
    Image.fromarray(labels).save(tmp_path / "a.png")
    for is_reduced, wanted in ((True, ["", "red", "blue", ""]), (False, ["red", "blue", "", ""])):
        sheet = draw_sheet([annotated_map(file, tmp_path / "a.png", is_reduced)], CATEGORIES, 400)
        assert [is_tinted(sheet[150, x]) for x in (50, 150, 250, 350)] == wanted


def test_images_are_shown_as_the_loader_turns_them(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = annotated_objects(grey(tmp_path / "a.jpg", exif=exif), (200, 400), [], {})
    loader = LoadImageFromFile(color_type="color_ignore_orientation")
    turned, stored = (
        draw_sheet([image], CATEGORIES, 400),
        draw_sheet([image], CATEGORIES, 400, loader),
    )
    assert turned.shape[0] > 500 and stored.shape[0] < 300


@pytest.mark.parametrize("damage", ["image", "label map", "channels"])
def test_what_cannot_be_read_is_a_place_that_says_so(tmp_path, damage):
    file, label_map = grey(tmp_path / "a.jpg"), grey(tmp_path / "a.png")
    if damage != "channels":
        Image.new("L", (400, 200)).save(label_map)
        (file if damage == "image" else label_map).write_bytes(b"none")
    images = [annotated_map(file, label_map, False)] * 2
    sheet = draw_sheet(images, CATEGORIES, 600)
    assert sheet.shape[1] == 600 and sheet[5, 5].tolist() == [220] * 3


def texts_of(figure):
    figure.draw_without_rendering()
    return list(dict.fromkeys(text.get_text() for text in figure.findobj(Text)))  # ticks twice


def test_numbers_of_objects_are_shown(tmp_path):
    image = annotated_objects(grey(tmp_path / "a.jpg"), (200, 400), [record()], {7: 0})
    sizes = np.array([[4, 4]] * 3 + [[8, 8]] * 6 + [[0, 5]], float)
    figure = draw_data_set(
        "a $ set", CATEGORIES, [1234, 0], [1, 0], np.array([[400, 200], [640, 100]]), [image], sizes
    )
    texts = texts_of(figure)
    for wanted in ("a $ set", "ship", "1,234 in 1 image", "not there (1): buoy",
                   "33% below\n8 pixels", "9 objects, half below 8",
                   "2 images, sides of 100 to 640"):  # fmt: skip
        assert wanted in texts


def test_shares_of_pixels_are_shown(tmp_path):
    file, label_map = grey(tmp_path / "a.jpg"), tmp_path / "a.png"
    Image.new("L", (400, 200)).save(label_map)
    image = annotated_map(file, label_map, False)
    figure = draw_data_set("", CATEGORIES, [300, 100], [1, 2], np.array([[400, 200]]), [image])
    texts = texts_of(figure)
    assert {"75.00% in 1 image", "25.00% in 2 images", "1 image, 400 x 200"} <= set(texts)
    assert len(figure.findobj(lambda each: hasattr(each, "get_xscale"))) == 3


def test_of_many_classes_the_frequent_and_the_rare_are_named(tmp_path):
    image = annotated_objects(grey(tmp_path / "a.jpg"), (200, 400), [], {})
    names = tuple(f"class {number} of a long name that goes on" for number in range(300))
    amounts = [300 - number for number in range(299)] + [0]
    categories = Categories(names, (RED,) * 300)
    figure = draw_data_set("", categories, amounts, amounts, np.array([[400, 200]]), [image],
                           np.ones((5, 2)))  # fmt: skip
    texts = texts_of(figure)
    shown = [text for text in texts if text.startswith("class ")]
    assert shown[0] == "class 0 of a long name th\u2026" and shown[-1].startswith("class 298 ")
    (more,) = [text for text in texts if "more classes" in text]
    assert len(shown) + int(more.split()[1]) == 299


def test_a_set_without_objects_can_be_drawn(tmp_path):
    image = annotated_objects(grey(tmp_path / "a.jpg"), (200, 400), [], {})
    figure = draw_data_set(
        "", CATEGORIES, [0, 0], [0, 0], np.array([[400, 200]]), [image], np.empty((0, 2))
    )
    assert "not there (2): ship, buoy" in texts_of(figure)


def test_rows_are_as_wide_as_the_sheet_and_thin_images_take_little(tmp_path):
    sizes = [(400, 200), (200, 400), (1, 300), (3000, 50), (30, 30), (5, 5)] * 2
    images = [
        annotated_objects(grey(tmp_path / f"{number}.png", *size), size[::-1], [], {})
        for number, size in enumerate(sizes)
    ]
    sheet = draw_sheet(images, CATEGORIES, 1500)
    assert sheet.shape[1] == 1500 and sheet.shape[0] < 2000
    assert (sheet[:, -60:] < 255).any()
