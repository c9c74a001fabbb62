"""Every kind of image that training stumbles over is named, with what to do; sound ones are not."""

import os

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from xcit_dense.data.image_checks import check_images

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
GREY = PIXELS[..., 0]
DEEP = PIXELS.astype(np.uint16) * 16
UNTURNED = LoadImageFromFile(color_type="color_ignore_orientation")
UNCHANGED = LoadImageFromFile(color_type="unchanged")


def pil(array=PIXELS, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return pil(exif=data)


def cut(path):
    pil()(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def opencv(array):
    return lambda path: cv2.imwrite(str(path), array)


@pytest.mark.parametrize(
    ("name", "write", "loader", "says", "remedy", "is_wrong"),
    [
        ("a.jpg", lambda path: os.mkfifo(path), None, "{}: is no file", "leave", True),
        ("a.jpg", lambda path: path.touch(), None, "cannot be read; training ends", "again", True),
        ("a.png", lambda path: path.write_text("<html>"), None, "{}: its content is no image", "",
         True),
        ("a.jpg", cut, None, "{}: cannot be read (OSError: image f", "again", True),
        ("a.tif", pil(GREY.astype("f")), None, "more than 8 bits", "8 bits", True),
        ("a.png", pil(PIXELS[:, 1:]), None, "{} (40 x 59, annotated as 40 x 60)", "scale", True),
        ("a.jpg", exif(6), None, "annotated as they are stored, or the other way round; boxes and "
         "masks lie elsewhere: {} (60 x 40", 'color_type="color_ignore_orientation"', True),
        ("a.png", exif(8), None, "annotated as they are stored", "ignore_orientation", True),
        ("a.png", opencv(DEEP), None, "no value above 15 of 255 as loaded; of 16 bits the upper 8 "
         "are taken: {} (at most 15)", "scale", False),
        ("a.png", pil(np.zeros_like(PIXELS)), None, "{} (at most 0)", "scale", False),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_remedy(tmp_path, name, write, loader, says, remedy, is_wrong):
    pil()(tmp_path / "sound.jpg")
    write(tmp_path / name)
    files = [(str(tmp_path / each), (40, 60)) for each in ("sound.jpg", name)]
    (finding,) = check_images(files, loader)
    assert finding.text.startswith("1 of 2 images ")
    assert says.format(tmp_path / name) in finding.text
    assert remedy in finding.remedy and finding.remedy
    assert finding.is_wrong is is_wrong


@pytest.mark.parametrize(
    ("name", "write", "annotated", "loader"),
    [
        ("a.jpg", pil(GREY), (40, 60), None),
        ("a.jpg", pil(), None, None),
        ("a.JPG", exif(6), (60, 40), None),
        ("a.jpg", exif(6), (40, 60), UNTURNED),
        ("called_jpg_and_is_png.jpg", lambda path: pil(format="PNG")(path), (40, 60), None),
        ("a.png", opencv(DEEP), (40, 60), UNCHANGED),
        ("ä b.jpg", pil(), (40, 60), None),
    ],
)
def test_nothing_is_said_of_sound_images(tmp_path, name, write, annotated, loader):
    write(tmp_path / name)
    assert not list(check_images([(str(tmp_path / name), annotated)], loader))


def test_what_the_loader_does_not_turn_is_named(tmp_path):
    exif(6)(tmp_path / "a.jpg")
    (finding,) = check_images([(str(tmp_path / "a.jpg"), (60, 40))], UNTURNED)
    assert "the other way round" in finding.text and '"color" as they are seen' in finding.remedy


def test_one_finding_a_kind_names_the_first_three_and_what_is_wrong_comes_first(tmp_path):
    pil(np.zeros_like(PIXELS))(tmp_path / "black.png")
    files = [(str(tmp_path / name), None) for name in ("black.png", *"abcd")]
    findings = list(check_images(files))
    assert [finding.is_wrong for finding in findings] == [True, False]
    assert findings[0].text.startswith("4 of 5 images cannot be read; ")
    assert f"{tmp_path / 'c'}: " in findings[0].text and findings[0].text.endswith(" and 1 more")
