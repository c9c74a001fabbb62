"""Images of every kind are read as training reads them, or refused with a reason."""

import io

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from xcit_dense.predict.reading.image_files import UnreadableImageError, read_image


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (60, 40))
    return Image.fromarray(smooth)


def blue_green_red(picture):
    return np.asarray(picture.convert("RGB"))[..., ::-1]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp", ".gif"])
def test_formats_are_read_as_mm_reads_them(tmp_path, picture, suffix):
    path = tmp_path / f"image{suffix}"
    picture.save(path)
    assert np.array_equal(read_image(path), mmcv.imread(str(path), backend="cv2"))
    assert read_image(path).dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_kinds_of_pixels_become_blue_green_red(tmp_path, picture, mode):
    converted = picture.convert(mode)
    converted.save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), blue_green_red(converted))


def test_alpha_is_dropped(tmp_path, picture):
    transparent = picture.convert("RGBA")
    transparent.putalpha(0)
    transparent.save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), blue_green_red(picture))


def test_cmyk_is_converted(tmp_path, picture):
    converted = picture.convert("CMYK")
    converted.save(tmp_path / "image.jpg", quality=98)
    difference = read_image(tmp_path / "image.jpg").astype(int) - blue_green_red(converted)
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_8_are_kept(tmp_path, suffix, channels):
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, channels), dtype=np.uint16)
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), values)
    read = read_image(path)
    assert np.abs(read.astype(int) - values // 256).max() <= 1  # some versions round
    assert read.shape == (9, 7, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_rotations_of_exif_are_done(tmp_path, picture, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.save(tmp_path / f"turned{suffix}", exif=exif)
    picture.save(tmp_path / f"plain{suffix}")
    turned = read_image(tmp_path / f"turned{suffix}")
    assert np.array_equal(turned, np.rot90(read_image(tmp_path / f"plain{suffix}"), -1))


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png").tolist() == [[[7, 8, 9]]]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_truncated_files_are_refused(tmp_path, suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF"}[suffix])
    content = whole.getvalue()
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UnreadableImageError):
        read_image(path)


@pytest.mark.parametrize("what", ["text", "profile", "damaged text"])
def test_large_or_damaged_metadata_are_no_damage_of_a_png(what, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    path, texts = tmp_path / "a.png", PngInfo()
    if what != "profile":
        texts.add_text("workflow", "x" * 3_000_000, zip=True)
    profile = bytes(3_000_000) if what == "profile" else None
    Image.fromarray(pixels[..., ::-1]).save(path, pnginfo=texts, icc_profile=profile)
    content = bytearray(path.read_bytes())
    if what == "damaged text":
        content[content.index(b"zTXt") + 30] ^= 255
        path.write_bytes(content)
    assert np.array_equal(read_image(path), pixels)
    path.write_bytes(content[: content.index(b"IDAT") + 100])
    with pytest.raises(UnreadableImageError):
        read_image(path)


def test_reasons_are_given(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    for name, reason in [
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "no image, or of an unknown format or kind of pixel"),
        ("float.tif", "OpenCV cannot decode it .*kind F"),
        ("none.jpg", "No such file"),
        (".", "Is a directory"),
    ]:
        with pytest.raises(UnreadableImageError, match=reason):
            read_image(tmp_path / name)
