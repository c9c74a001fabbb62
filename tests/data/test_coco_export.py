"""Annotation files as tools export them: each quirk with what it should become."""

import json

import pytest
from PIL import Image

from xcit_dense.data.coco_export import read_export
from xcit_dense.errors import UserError

SQUARE = [2, 3, 12, 3, 12, 13, 2, 13]


def content(file_name="a.png", width=40, height=30, **of_object):
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "iscrowd": 0}
    record |= {"area": 100, "segmentation": [SQUARE]}
    return {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "annotations": [record | of_object],
        "categories": [{"id": 1, "name": "bolt"}],
    }


@pytest.fixture
def export(tmp_path):
    """Writes an annotation file and images (by default ``a.png``, 40 x 30), and reads the file."""

    def make(given, images=("a.png",), orientation=1, size=(40, 30)):
        for name in images:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.new("RGB", size).save(path, exif=exif)
        path = tmp_path / "train.json"
        path.write_text(json.dumps(given))
        before = path.read_bytes()
        read = read_export(path, tmp_path / "images")
        assert path.read_bytes() == before
        return read

    return make


def test_a_sound_file_is_taken_as_it_is(export):
    read = export(given := content())
    assert (read.mended, read.has_masks, read.content) == ([], True, given)


@pytest.mark.parametrize(
    ("image", "category", "in_object", "ids"),
    [
        (7.0, 3.0, (7.0, 3.0), (7, 3)),
        ("7", 3, (7, "3"), (7, 3)),
        ("0007", 3, ("0007", 3), (7, 3)),
        ("a3f", "bolt", ("a3f", "bolt"), (1, 1)),
    ],
)
def test_ids_become_whole_numbers(export, image, category, in_object, ids):
    given = content(image_id=in_object[0], category_id=in_object[1], id=image)
    given["images"][0]["id"], given["categories"][0]["id"] = image, category
    read = export(given)
    record = read.content["annotations"][0]
    assert (record["image_id"], record["category_id"], type(record["id"])) == (*ids, int)
    assert (read.content["images"][0]["id"], read.content["categories"][0]["id"]) == ids
    assert read.mended


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("images\\1/90fbb0c7-a.png", "90fbb0c7-a.png"),  # Label Studio on Windows
        ("..\\..\\media\\upload\\4\\cb0618f6-a.png", "a.png"),
        ("/data/local-files/?d=set%201/a b.png", "set 1/a b.png"),
        ("my%20photo.png", "my photo.png"),
        ("C:\\Users\\me\\photo.png", "sub folder/photo.png"),
        ("sub folder/Schra\u0308ube.PNG", "sub folder/Schr\u00e4ube.png"),
        ("./a.png", "a.png"),
    ],
)
def test_images_are_found_by_the_names_that_tools_write(export, written, file):
    read = export(content(written), images=[file])
    assert read.content["images"][0]["file_name"] == file
    assert read.mended
    assert not export(content("x/a.png"), images=["x/a.png", "y/a.png", "x/A.png"]).mended


def test_what_exporters_leave_out_is_completed(export):
    given = content(segmentation=SQUARE)
    for key in ("area", "iscrowd"):
        del given["annotations"][0][key]
    given["images"][0] |= {"width": "", "height": None}
    read = export(given)
    record, image = read.content["annotations"][0], read.content["images"][0]
    assert (record["segmentation"], record["area"], record["iscrowd"]) == ([SQUARE], 100, 0)
    assert (image["width"], image["height"], len(read.mended)) == (40, 30, 2)


def test_categories_of_one_name_are_one_with_the_objects_of_all(export):
    given = content()
    given["categories"] += [{"id": 5, "name": "nut"}, {"id": "7", "name": "bolt"}]
    given["annotations"] += [
        content(id=i, category_id=c)["annotations"][0] for i, c in ((2, 5), (3, 7))
    ]
    read = export(given)
    assert [each["id"] for each in read.content["categories"]] == [1, 5]
    assert read.numbers_of_objects() == {"bolt": 2, "nut": 1}
    assert any("several categories are called 'bolt'" in line for line in read.mended)


@pytest.mark.parametrize(("orientation", "stored"), [(6, (40, 30)), (1, (30, 40))])
def test_a_turned_size_becomes_that_of_the_image_as_it_is_shown(export, orientation, stored):
    read = export(content(), orientation=orientation, size=stored)
    assert (read.content["images"][0]["width"], read.content["images"][0]["height"]) == (30, 40)
    assert "browse" in read.mended[0]
    assert not export(content(width=30, height=40), orientation=6).mended


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda c: c.pop("categories"), "train.json: is no annotation file.*categories"),
        (lambda c: c["annotations"].append(3), "is no annotation file"),
        (lambda c: c["annotations"][0].update(category_id=None), "category_id None"),
        (lambda c: c["images"].append(c["images"][0] | {"id": "1"}), "several have the id 1"),
        (lambda c: c["images"][0].update(file_name="c.png"), "1 of 1 images are not in .*c.png"),
        (lambda c: c["images"][0].update(file_name="b.png"), "base name of x/b.png and y/b.png"),
        (lambda c: c["images"][0].update(file_name="bad.png"), r"bad\.png: cannot be read"),
        (lambda c: c["images"][0].update(width="80"), "a.png has 40 x 30, not 80 x 30"),
        (lambda c: c["images"][0].update(width="wide"), "train.json: .*'wide'"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, float("nan"), 1]), "bbox"),
    ],
)
def test_what_cannot_be_used_is_named(export, tmp_path, change, error):
    with pytest.raises(UserError, match=r"--images .*nowhere: there is no such folder"):
        read_export(tmp_path / "train.json", tmp_path / "nowhere")
    export(content())
    (tmp_path / "images/bad.png").write_bytes(b"GIF")
    change(given := content())
    with pytest.raises(UserError, match=error):
        export(given, images=["x/b.png", "y/b.png"])


def test_all_kinds_of_faults_are_told_at_once(export, capfd):
    given = content(bbox=[1, 2, 3])
    for number, fault in enumerate(({"category_id": 9}, {"bbox": [990, 990, 9, 9]}), start=2):
        given["annotations"].append({**content()["annotations"][0], "id": number, **fault})
    with pytest.raises(UserError, match=r"train\.json: 1 of 3 .*far outside.*; mend or remove"):
        export(given)
    lines = [line for line in capfd.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 2 and "bbox must be [left" in lines[0] and "category_id 9" in lines[1]
