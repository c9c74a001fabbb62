"""Arrays in files, and images that are decoded whole."""

import cv2
import numpy as np
import pytest
from PIL import Image

from xcit_dense.errors import UserError
from xcit_dense.large import arrays
from xcit_dense.large.sources import Window, open_raster
from xcit_dense.predict.inputs import read_image

RNG = np.random.default_rng(0)
PART = Window(20, 9, 13, 26)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f4"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", ["YX", "YXC", "CYX"])
def test_mapped_arrays(tmp_path, dtype, order, axes):
    shape = [dict(Y=40, X=60, C=5)[axis] for axis in axes]
    array = (RNG.random(shape) * 200).astype(dtype)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    raster = open_raster(tmp_path / "a.npy")
    expected = (
        array[..., None] if axes == "YX" else array.transpose([axes.index(axis) for axis in "YXC"])
    )
    assert (raster.height, raster.width, raster.count) == expected.shape
    assert raster.dtype.isnative
    np.testing.assert_array_equal(raster.read(PART), expected[PART.slices])
    np.testing.assert_array_equal(raster.read(PART, [0]), expected[PART.slices][..., :1])
    assert raster.valid(PART) is None
    assert raster.georeference is None


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((3, 40, 4), "either end could be the bands"),
        ((40, 3, 60), "either end could be the bands"),
        ((60, 50, 40), "either end could be the bands"),
        ((40,), r"has the shape \(40,\)"),
        ((1, 3, 40, 60), "has the shape"),
    ],
)
def test_arrays_that_could_be_several_things(tmp_path, shape, text):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=rf"a\.npy: .*{text}"):
        open_raster(tmp_path / "a.npy")


def test_damaged_arrays_and_hostile_ones(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((400, 600), np.uint8))
    raster = open_raster(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"a\.npy: rows 20 to 32, columns 9 to 34 cannot be read"):
        raster.read(PART)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be opened"):
        open_raster(path)
    with pytest.raises(UserError, match="not found"):
        open_raster(tmp_path / "b.npy")


def test_reading_all_of_a_mapped_array_takes_no_memory(tmp_path):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (10000, 10000)).flush()
    raster = open_raster(tmp_path / "a.npy")
    before = resident()
    for top in range(0, 10000, 500):
        raster.read(Window(top, 0, 500, 10000))
    assert resident() - before < 30e6


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_images_are_what_a_model_would_see(tmp_path, suffix):
    path = str(tmp_path / f"a{suffix}")
    cv2.imwrite(path, RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    raster = open_raster(path)
    assert raster.names == ("red", "green", "blue")
    expected = read_image(path)[PART.slices][..., ::-1]
    np.testing.assert_array_equal(raster.read(PART), expected)


def test_depth_of_images_stays_and_exif_turns_them(tmp_path):
    deep = RNG.integers(0, 4096, (40, 60, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    raster = open_raster(tmp_path / "deep.png")
    assert raster.dtype == np.uint16
    np.testing.assert_array_equal(raster.read(PART), deep[PART.slices][..., ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_raster(tmp_path / "turned.jpg").width == 40


def test_images_that_pillow_would_refuse_for_their_size(tmp_path, monkeypatch):
    Image.new("L", (60, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(arrays, "_LARGE", 2000)
    with pytest.raises(UserError, match="DecompressionBomb"):
        read_image(tmp_path / "a.png")
    raster = open_raster(tmp_path / "a.png")
    assert raster.width == 60
    assert "is held in memory" in raster.warning
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.setattr(arrays, "_LARGEST", 2000)
    with pytest.raises(UserError, match=r"(?s)too large to be decoded whole.*gdal_translate"):
        open_raster(tmp_path / "a.png")
