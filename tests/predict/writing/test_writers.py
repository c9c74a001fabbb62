"""Any viewer reads pictures and label maps."""

import cv2
import numpy as np
import pytest
from PIL import Image

from xcit_dense.predict import Categories, SegmentationMap
from xcit_dense.predict.writing.writers import write_label_map, write_picture

CATEGORIES = Categories(("one", "two"), ((250, 0, 0), (0, 0, 250)))
GREY = np.full((20, 30, 3), 128, np.uint8)


def test_label_maps_keep_the_labels_and_show_the_colours(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (20, 30))
    write_label_map(tmp_path / "new" / "a.png", SegmentationMap(labels), CATEGORIES)
    picture = Image.open(tmp_path / "new" / "a.png")
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), labels)
    assert np.array_equal(picture.convert("RGB"), np.array(CATEGORIES.palette)[labels])


def test_more_classes_than_a_palette_has_colours(tmp_path):
    many = Categories(("c",) * 300, ((0, 0, 0),) * 300)
    labels = np.arange(300).reshape(20, 15)
    write_label_map(tmp_path / "a.png", SegmentationMap(labels), many)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), labels)


def test_pictures_are_jpegs(tmp_path):
    write_picture(tmp_path / "new" / "a.jpg", GREY)
    assert np.array_equal(cv2.imread(str(tmp_path / "new" / "a.jpg")), GREY)


def test_names_that_are_not_utf8(tmp_path):
    """OpenCV ends the process where it gets such a name."""
    path = tmp_path / "a\udcff.jpg"
    write_picture(path, GREY)
    assert path.stat().st_size > 0


def test_pictures_larger_than_a_jpeg_are_shrunk(tmp_path):
    write_picture(tmp_path / "a.jpg", np.zeros((2, 66_000, 3), np.uint8))
    assert Image.open(tmp_path / "a.jpg").size == (65_500, 2)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    class FullDisk(type(tmp_path)):
        def open(self, *args, **kwargs):
            return FullFile(super().open(*args, **kwargs))

    class FullFile:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, content):
            self.file.write(content[:9])
            self.file.flush()
            raise OSError(28, "No space left on device")

    old = tmp_path / "old.jpg"
    write_picture(old, GREY)
    before = old.read_bytes()
    for name in ("old.jpg", "new.jpg"):
        with pytest.raises(OSError, match="No space left"):
            write_picture(FullDisk(tmp_path / name), np.zeros_like(GREY))
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == before
