"""Masks find their images by names, and masks that cannot be used are named."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from xcit_dense.data.mask_folder import pair_files, read_mask_folder
from xcit_dense.errors import UserError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("images", "masks", "suffixes"),
    [
        (["1.jpg", "10.jpg", "11.jpg"], ["1.png", "10.png", "11.png"], [(".jpg", ".png")]),
        (["a.png", "b.png"], ["a.png", "b.png"], [(".png", ".png")]),
        (["x/a.jpg", "y/a.jpg"], ["x/a_mask.png", "y/a_mask.png"], [(".jpg", "_mask.png")]),
        (["a_rgb.tif", "b_rgb.tif"], ["a_gt.tif", "b_gt.tif"], [("rgb.tif", "gt.tif")]),
        (["a.jpg", "b.JPG"], ["a.png", "b.png"], [(".jpg", ".png"), (".JPG", ".png")]),
        (["ä b.c.jpg", "d.jpg"], ["ä b.c.png", "d.png"], [(".jpg", ".png")]),
    ],
)
def test_names_tell_what_belongs_together(tmp_path, images, masks, suffixes):
    found = pair_files(touch(tmp_path / "i", *images), touch(tmp_path / "m", *masks, "._a.png"))
    assert found.pairs == sorted(zip(images, masks, strict=True))
    assert found.suffixes == suffixes
    assert found.without_mask == found.without_image == []


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["a.jpg", "a.png", "b.jpg", "b.png"], [("a.jpg", "a.png"), ("b.jpg", "b.png")]),
        (["a.png", "a_m.png", "b.png", "b_m.png"], [("a.png", "a_m.png"), ("b.png", "b_m.png")]),
    ],
)
def test_images_and_masks_may_share_a_folder(tmp_path, names, pairs):
    found = pair_files(touch(tmp_path, *names), tmp_path)
    assert found.pairs == pairs
    assert found.without_mask == found.without_image == []


def test_of_several_masks_the_suffix_is_asked_for(tmp_path):
    images = touch(tmp_path / "i", *(f"{city}_leftImg8bit.png" for city in "abc"))
    kinds = ("labelIds", "color")
    masks = touch(tmp_path / "m", *(f"{city}_gt_{kind}.png" for city in "abc" for kind in kinds))
    with pytest.raises(
        UserError, match=r"gt_\w+\.png, gt_\w+\.png: tell which by --seg-map-suffix"
    ):
        pair_files(images, masks)
    found = pair_files(images, masks, "_leftImg8bit.png", "_gt_labelIds.png")
    assert found.pairs[2] == ("c_leftImg8bit.png", "c_gt_labelIds.png")
    assert pair_files(images, masks, None, "_gt_labelIds.png").pairs == found.pairs


def test_what_is_alone_is_told(tmp_path):
    images = touch(tmp_path / "i", "a.jpg", "b.jpg", "c.jpg")
    found = pair_files(images, touch(tmp_path / "m", "a.png", "b.png", "d.png"))
    assert (found.without_mask, found.without_image) == (["c.jpg"], ["d.png"])
    with pytest.raises(UserError, match=r"no image has .* a\.jpg, b\.jpg, c\.jpg; .* x\.png"):
        pair_files(images, touch(tmp_path / "other", "x.png"))
    with pytest.raises(UserError, match="there is no image"):
        pair_files(images, touch(tmp_path / "none", "readme.txt"))


def circle(side=64):
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((5, 5, side // 2, side // 2), fill=255)
    return mask


def jpeg(image):
    image.save(file := io.BytesIO(), "JPEG", quality=60)
    return file.getvalue()


def photograph():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (jpeg(circle()), ["is a JPEG", "as PNG"]),
        (photograph(), ["different colours", "one value or colour a class"]),
        (b"no image", ["cannot be read"]),
        (b"", ["cannot be read"]),
    ],
)
def test_masks_that_cannot_be_used_are_named(tmp_path, content, told):
    (tmp_path / "a.jpg").write_bytes(jpeg(circle()))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png") as caught:
        read_mask_folder(tmp_path, tmp_path, ".jpg", ".png")
    assert all(text in str(caught.value) for text in told)


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
