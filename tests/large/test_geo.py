"""What rasterio reads: values, what is valid, where it lies, and what is said of damage."""

import shutil

import numpy as np
import pytest

from xcit_dense.errors import UserError
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.sources import Window, open_raster

rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")
from rasterio.shutil import copy  # noqa: E402

TRANSFORM = (0.5, 0.0, 400000.0, 0.0, -0.5, 5700000.0)
PART = Window(200, 90, 130, 260)
RNG = np.random.default_rng(0)


def values(dtype, count=3, height=400, width=600):
    high = 1 if np.dtype(dtype).kind == "f" else min(np.iinfo(dtype).max, 4000)
    return (RNG.random((height, width, count)) * high).astype(dtype)


def save(path, array, **options):
    height, width, count = array.shape
    options = dict(crs="EPSG:25832", transform=rasterio.Affine(*TRANSFORM)) | options
    options = dict(driver="GTiff", tiled=True, blockxsize=128, blockysize=128) | options
    size = dict(height=height, width=width, count=count, dtype=array.dtype)
    with rasterio.open(path, "w", **size, **options) as file:
        file.write(np.moveaxis(array, -1, 0))
    return path


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_parts_are_those_of_the_file(tmp_path, dtype, count):
    array = values(dtype, count)
    raster = open_raster(save(tmp_path / "a.tif", array, photometric="minisblack"))
    assert (raster.height, raster.width, raster.count, raster.dtype) == (400, 600, count, dtype)
    np.testing.assert_array_equal(raster.read(PART), array[PART.slices])
    some = array[PART.slices][..., [count - 1, 0]]
    np.testing.assert_array_equal(raster.read(PART, [count - 1, 0]), some)
    assert raster.valid(PART) is None
    assert raster.georeference.transform == TRANSFORM
    assert rasterio.CRS.from_wkt(raster.georeference.crs) == rasterio.CRS.from_epsg(25832)
    assert not raster.warning


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_other_drivers(tmp_path):
    array = values("uint8")
    plain = save(tmp_path / "plain.tif", array, crs=None, transform=None)
    copy(plain, tmp_path / "a.vrt", driver="VRT")
    copy(plain, tmp_path / "a.jp2", driver="JP2OpenJPEG", quality=100, reversible=True)
    for name in ("plain.tif", "a.vrt", "a.jp2"):
        raster = open_raster(tmp_path / name)
        np.testing.assert_array_equal(raster.read(PART), array[PART.slices])
        assert raster.georeference is None
    shutil.copy(tmp_path / "a.vrt", tmp_path / "b.tif")  # a VRT may name files elsewhere
    with pytest.raises(UserError, match=r"b\.tif: cannot be opened"):
        open_raster(tmp_path / "b.tif")


def test_levels_are_overviews(tmp_path):
    path = save(tmp_path / "a.tif", values("uint8", 1))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    raster = open_raster(path, level=2)
    assert (raster.height, raster.width) == (100, 150)
    assert raster.georeference.transform == (2, 0, 400000, 0, -2, 5700000)
    with rasterio.open(path) as file:
        whole = file.read(1, out_shape=(100, 150))
    np.testing.assert_array_equal(raster.read(Window(10, 20, 30, 40))[..., 0], whole[10:40, 20:60])
    with pytest.raises(UserError, match=r"--level 3: .*a\.tif has the levels 0 to 2"):
        open_raster(path, level=3)


def test_nodata_alpha_and_masks(tmp_path):
    array = values("uint8", 3) | 1
    hole = np.zeros((400, 600), bool)
    hole[210:250, 100:300] = True
    array[hole] = 0
    array[300, 100] = 0, 0, 5  # one band with a value is enough
    nodata = open_raster(save(tmp_path / "nodata.tif", array, nodata=0))
    with_alpha = np.dstack([array, np.where(hole, 0, 255).astype(np.uint8)])
    alpha = save(tmp_path / "alpha.tif", with_alpha, photometric="rgb", alpha="yes")
    with rasterio.open(save(tmp_path / "mask.tif", array), "r+") as file:
        file.write_mask(~hole)
    for raster in (nodata, open_raster(alpha), open_raster(tmp_path / "mask.tif")):
        assert raster.count == 3
        np.testing.assert_array_equal(Pixels(raster).valid(PART), ~hole[PART.slices])
        np.testing.assert_array_equal(Pixels(raster).read(PART), array[PART.slices][..., ::-1])
    assert not nodata.valid(Window(300, 100, 1, 1), [0])[0, 0]  # none but that counts


def test_a_palette_is_looked_up(tmp_path):
    indexes = RNG.integers(0, 4, (400, 600, 1), dtype=np.uint8)
    table = {0: (0, 0, 0, 0), 1: (255, 0, 0, 255), 2: (0, 200, 0, 255), 3: (10, 20, 30, 255)}
    with rasterio.open(save(tmp_path / "a.tif", indexes), "r+") as file:
        file.write_colormap(1, table)
    raster = open_raster(tmp_path / "a.tif")
    colors = np.array([table[each][:3] for each in range(4)], np.uint8)
    np.testing.assert_array_equal(raster.read(PART), colors[indexes[PART.slices][..., 0]])
    np.testing.assert_array_equal(raster.read(PART, [2]), raster.read(PART)[..., 2:])
    assert raster.names == ("red", "green", "blue")


@pytest.mark.parametrize("bits", [1, 4])
def test_few_bits_go_from_black_to_white(tmp_path, bits):
    array = RNG.integers(0, 2**bits, (400, 600, 1), dtype=np.uint8)
    raster = open_raster(save(tmp_path / "a.tif", array, nbits=bits))
    expected = (array * (255 // (2**bits - 1))).repeat(3, 2)
    np.testing.assert_array_equal(Pixels(raster).read(PART), expected[PART.slices])


@pytest.mark.parametrize(("rows", "cost"), [(1, "whole rows of 5000"), (60, "all of it")])
def test_untiled_rasters_are_named_with_the_remedy(tmp_path, rows, cost):
    path = tmp_path / "a.tif"
    how = dict(tiled=False, blockxsize=5000, blockysize=rows, compress="deflate")
    save(path, values("uint8", 1, 60, 5000), **how)
    warning = open_raster(path).warning
    assert cost in warning
    assert "gdal_translate -co TILED=YES" in warning
    assert warning.endswith(f"{path} a_tiled.tif")


def test_a_damaged_block_is_named_and_others_are_read(tmp_path):
    array = values("uint8")
    path = save(tmp_path / "a.tif", array, compress="deflate", interleave="pixel")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 500] = bytes(500)
    path.write_bytes(content)
    raster = open_raster(path)
    for _ in range(2):
        with pytest.raises(OSError, match=r"a\.tif: rows 200 to 329, columns 90 to 349 cannot"):
            raster.read(PART)
    elsewhere = Window(256, 0, 144, 600)
    np.testing.assert_array_equal(raster.read(elsewhere), array[elsewhere.slices])
    assert "stretched" in str(Pixels(raster, stretch="2%,98%"))  # of what can be read
    path.write_bytes(content[:1000])
    with pytest.raises((UserError, OSError), match=r"a\.tif: "):
        open_raster(path).read(PART)
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.tif: cannot be opened .*not recognized"):
        open_raster(path)


def test_memory_does_not_grow_with_what_was_read(tmp_path):
    """300 MB are read with a cache of 128 MB."""

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    size = dict(height=10240, width=10240, count=3, dtype="uint8")
    how = dict(driver="GTiff", tiled=True, sparse_ok=True, transform=rasterio.Affine(*TRANSFORM))
    with rasterio.open(tmp_path / "a.tif", "w", **size, **how):
        pass
    raster = open_raster(tmp_path / "a.tif")
    before = resident()
    for top in range(0, raster.height, 256):
        raster.read(Window(top, 0, 256, raster.width))
    assert resident() - before < 180e6
