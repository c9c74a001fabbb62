"""Masks find their images by names, and masks that cannot be used are named."""

import io

import numpy as np
import pytest
from PIL import Image

from xcit_dense.data.mask_folder import read_mask_folder
from xcit_dense.errors import UserError


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path)
    return folder


@pytest.mark.parametrize(
    ("images", "masks", "given", "suffixes"),
    [
        (["1.jpg", "10.jpg", "11.jpg"], ["1.png", "10.png", "11.png"], (), {(".jpg", ".png")}),
        (["a.png", "b.png"], ["a.png", "b.png"], (), {(".png", ".png")}),
        (["x/a.jpg", "y/a.jpg"], ["x/a_m.png", "y/a_m.png"], (), {(".jpg", "_m.png")}),
        (["a_rgb.tif"], ["a_gt.tif"], ("_rgb.tif", "_gt.tif"), {("_rgb.tif", "_gt.tif")}),
        (["a.JPG", "b.jpg"], ["a.png", "b.png"], (), {(".jpg", ".png"), (".JPG", ".png")}),
        (["d.jpg", "ä b.c.jpg"], ["d.png", "ä b.c.png"], (), {(".jpg", ".png")}),
    ],
)
def test_names_tell_what_belongs_together(tmp_path, images, masks, given, suffixes):
    folders = files(tmp_path / "i", *images), files(tmp_path / "m", *masks, "._a.png")
    found = read_mask_folder(*folders, *given)
    assert found.pairs == list(zip(images, masks, strict=True))
    assert found.suffixes == suffixes
    assert len(found.notes) == 1


def test_images_and_masks_may_share_a_folder(tmp_path):
    files(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png")
    with pytest.raises(UserError, match="give --img-suffix and --seg-map-suffix"):
        read_mask_folder(tmp_path, tmp_path)
    found = read_mask_folder(tmp_path, tmp_path, ".jpg", ".png")
    assert found.pairs == [("a.jpg", "a.png"), ("b.jpg", "b.png")]


def test_of_several_masks_the_suffix_is_asked_for(tmp_path):
    images = files(tmp_path / "i", "a.jpg", "b.jpg")
    masks = files(tmp_path / "m", *(f"{n}_{kind}.png" for n in "ab" for kind in ("ids", "color")))
    with pytest.raises(UserError, match=r"_\w+\.png, _\w+\.png: tell which by --seg-map-suffix"):
        read_mask_folder(images, masks)
    assert read_mask_folder(images, masks, None, "_ids.png").pairs[1] == ("b.jpg", "b_ids.png")


def test_what_is_alone_is_told(tmp_path):
    images = files(tmp_path / "i", "a.jpg", "b.jpg", "c.jpg")
    _, *found = read_mask_folder(images, files(tmp_path / "m", "a.png", "b.png", "d.png")).notes
    assert "1 image without a mask, left out: c.jpg" in found[0]
    assert "1 mask without an image, left out: d.png" in found[1]
    with pytest.raises(UserError, match=r"no image has .* a\.jpg, b\.jpg, c\.jpg; .* x\.png"):
        read_mask_folder(images, files(tmp_path / "other", "x.png"))
    with pytest.raises(UserError, match=r"there is no image whose name ends in \.bmp"):
        read_mask_folder(images, images, ".jpg", ".bmp")


def encoded(image, kind):
    image.save(file := io.BytesIO(), kind)
    return file.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (encoded(NOISE, "JPEG"), r"a\.png is a JPEG.* as PNG"),
        (encoded(NOISE, "PNG"), r"a\.png has \d+ different colours.* one value or colour a class"),
        (encoded(Image.new("F", (64, 64)), "TIFF"), "pixels of the kind F"),
        (b"no image", r"a\.png: cannot be read"),
    ],
)
def test_masks_that_cannot_be_used_are_named(tmp_path, content, told):
    NOISE.save(tmp_path / "a.jpg")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_mask_folder(tmp_path, tmp_path, ".jpg", ".png")


@pytest.mark.parametrize(("turned", "size"), [(1, (64, 32)), (6, (32, 64))])
def test_sizes_are_those_of_the_image_as_it_is_shown(tmp_path, turned, size):
    exif = Image.Exif()
    exif[0x112] = turned
    Image.new("RGB", (64, 32)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", size).save(tmp_path / "a.png")
    (content,) = read_mask_folder(tmp_path, tmp_path, ".jpg", ".png").contents
    assert content.image_size == size
    Image.new("L", size[::-1]).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"{size[1]} x {size[0]} pixels, its image {size[0]} x"):
        read_mask_folder(tmp_path, tmp_path, ".jpg", ".png")
