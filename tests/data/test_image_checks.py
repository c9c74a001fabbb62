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
ALPHA = np.dstack([PIXELS, GREY])
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\nshowpage\n"
UNTURNED = LoadImageFromFile(color_type="color_ignore_orientation")
UNCHANGED = LoadImageFromFile(color_type="unchanged")


def pil(array=PIXELS, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return pil(exif=data)


def cut(write, share):
    def write_cut(path):
        write(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return write_cut


def opencv(array):
    return lambda path: cv2.imwrite(str(path), array)


def content(data):
    return lambda path: path.write_bytes(data)


def overviews(path):
    small = Image.fromarray(PIXELS[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(PIXELS).save(path, save_all=True, append_images=[small])


@pytest.mark.parametrize(
    ("name", "write", "says", "remedy", "is_wrong"),
    [
        ("a.jpg", lambda path: None, "are missing{}; training ends", "data_root", True),
        ("a.jpg", lambda path: path.mkdir(), "{} (no plain file)", "data_root", True),
        ("a.jpg", lambda path: os.mkfifo(path), "{} (no plain file)", "data_root", True),
        ("a.jpg", content(b""), "have no content{};", "leave them out", True),
        ("a.jpg", content(EPS), "no image such as .avif .bmp", "convert", True),
        ("a.png", content(b"<html>404</html>"), "no image such as .avif .bmp", "convert", True),
        ("a.jpg", cut(pil(), 0.5), "cut short or damaged{} (OSError: image f", "again", True),
        ("a.png", cut(pil(), 0.5), "cut short or damaged{} (OSError: image f", "again", True),
        ("a.tif", cut(pil(), 0.5), "cut short or damaged{} (OSError: image f", "again", True),
        ("a.tif", pil(GREY.astype("f")), "and not by the loader of the training", "8", True),
        ("a.png", pil(PIXELS[:, 1:]), "{} (40 x 59, annotated as 40 x 60); if b", "scale", True),
        ("a.jpg", exif(6), "EXIF data say, and annotated as they are stored{} (60 x 40, annotated"
         " as 40 x 60)", 'color_type="color_ignore_orientation"', True),
        ("a.png", exif(8), "annotated as they are stored", "color_ignore_orientation", True),
        ("a.tif", exif(8), "annotated as they are stored", "color_ignore_orientation", True),
        ("a.jpg", exif(3), "that their size does not show{}; if", "xcit-dense browse", False),
        ("a.png", opencv(PIXELS.astype(np.uint16) * 16),
         "16 bits a band{} (at most 15 of 255 as loaded)", "scale", False),
        ("a.tif", opencv(GREY.astype(np.uint16) * 16), "16 bits a band{} (at most 15", "", False),
        ("a.png", pil(ALPHA), "have a fourth band", "in_channels=4", False),
        ("a.tif", opencv(ALPHA), "have a fourth band", "in_channels=4", False),
        ("a.gif", pil(save_all=True, append_images=[Image.fromarray(255 - PIXELS)]),
         "several images or pages{} (2); the loader takes the first", "own", False),
        ("a.png", pil(np.zeros_like(PIXELS)), "one grey as loaded{} (0)", "leave", False),
        ("a.png", pil(np.full_like(PIXELS, 255)), "one grey as loaded{} (255)", "leave", False),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_remedy(tmp_path, name, write, says, remedy, is_wrong):
    pil()(tmp_path / "sound.jpg")
    write(tmp_path / name)
    files = [(tmp_path / "sound.jpg", (40, 60)), (tmp_path / name, (40, 60))]
    (finding,) = check_images(files)
    assert finding.text.startswith("1 of 2 images ")
    assert says.format(f", such as {tmp_path / name}") in finding.text
    assert remedy in finding.remedy and finding.remedy
    assert finding.is_wrong is is_wrong


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (20, 201)])
def test_thin_images_are_named(tmp_path, size):
    pil(np.resize(PIXELS, (*size, 3)))(tmp_path / "a.png")
    (finding,) = check_images([(tmp_path / "a.png", None)])
    assert f"({size[0]} x {size[1]})" in finding.text and not finding.is_wrong


@pytest.mark.parametrize(
    ("name", "write", "annotated", "loader"),
    [
        ("a.jpg", pil(GREY), (40, 60), None),
        ("a.jpg", pil(), None, None),
        ("a.JPG", exif(6), (60, 40), None),
        ("a.jpg", exif(6), (40, 60), UNTURNED),
        ("a.jpg", exif(3), (40, 60), UNTURNED),
        ("called_jpg_and_is_png.jpg", lambda path: pil(format="PNG")(path), (40, 60), None),
        ("a.png", pil(np.dstack([PIXELS, np.full_like(GREY, 255)])), (40, 60), None),
        ("a.png", pil(ALPHA), (40, 60), UNCHANGED),
        ("a.png", opencv(PIXELS.astype(np.uint16) * 16), (40, 60), UNCHANGED),
        ("a.webp", pil(), (40, 60), None),
        ("a.tif", overviews, (40, 60), None),
        ("ä b.jpg", pil(), (40, 60), None),
    ],
)
def test_nothing_is_said_of_sound_images(tmp_path, name, write, annotated, loader):
    write(tmp_path / name)
    assert not list(check_images([(tmp_path / name, annotated)], loader))


def test_what_the_loader_does_not_turn_is_named(tmp_path):
    exif(6)(tmp_path / "a.jpg")
    (finding,) = check_images([(tmp_path / "a.jpg", (60, 40))], UNTURNED)
    assert "which the loader does not do" in finding.text and 'color_type="color"' in finding.remedy


def test_one_finding_a_kind_names_the_first_three_and_what_is_wrong_comes_first(tmp_path):
    pil(np.zeros_like(PIXELS))(tmp_path / "black.png")
    missing = [tmp_path / f"{number}.jpg" for number in range(100)]
    findings = list(check_images([(path, None) for path in [tmp_path / "black.png", *missing]]))
    assert [finding.is_wrong for finding in findings] == [True, False]
    shown = ", ".join(map(str, missing[:3]))
    assert f"100 of 101 images are missing, such as {shown}; training ends" in findings[0].text


def test_images_that_pillow_takes_for_bombs_are_named(tmp_path, monkeypatch):
    pil()(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (finding,) = check_images([(tmp_path / "a.png", None)])
    assert "pixels, such as " in finding.text and "tiles" in finding.remedy
