"""Levels and resolutions of pyramids in TIFF and of slides; arrays of zarr's."""

import numpy as np
import pytest

from xcit_dense.errors import UserError
from xcit_dense.large.scaling import ScaledRaster
from xcit_dense.large.sources import Window, open_raster

REASON = "the extra slides is not installed"
tifffile = pytest.importorskip("tifffile", reason=REASON)
zarr = pytest.importorskip("zarr", reason=REASON)

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (904, 1200, 3), dtype=np.uint8)
PART = Window(120, 70, 90, 130)
FACTORS = (1, 4, 8)
MICROMETERS = 0.25  # a pixel of the finest level


def save_ome(path, array=COLORS, axes="YXS", **options):
    resolution = dict(resolution=(1e4 / MICROMETERS,) * 2, resolutionunit="CENTIMETER")
    options = dict(tile=(128, 128), compression="zlib") | options
    y = axes.index("Y")
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(array, subifds=2, metadata={"axes": axes}, **resolution, **options)
        for factor in FACTORS[1:]:
            cut = (slice(None),) * y + (slice(None, None, factor),) * 2
            file.write(array[cut], subfiletype=1, **options)
    return path


def save_slide(path):
    """As Aperio's scanners do."""
    with tifffile.TiffWriter(path) as file:
        for number, factor in enumerate(FACTORS):
            text = f"Aperio Image Library v1\n1200x904 (128x128)|MPP = {MICROMETERS}|AppMag = 40"
            options = dict(photometric="rgb", metadata=None, description=text)
            array = COLORS[::factor, ::factor]
            file.write(array, tile=(128, 128), compression="zlib", **options)
            if number == 0:  # the picture of the whole
                file.write(COLORS[::30, ::30], **options)
    return path


@pytest.fixture(params=["a.ome.tif", "a.svs"])
def pyramid(request, tmp_path):
    if request.param == "a.svs":
        pytest.importorskip("openslide", reason=REASON)
        return save_slide(tmp_path / request.param)
    return save_ome(tmp_path / request.param, photometric="rgb")


@pytest.mark.parametrize("level", [None, 0, 1])
def test_levels(pyramid, level):
    raster = open_raster(pyramid, level=level)
    whole = COLORS[:: FACTORS[level or 0], :: FACTORS[level or 0]]
    assert (raster.height, raster.width, raster.count) == whole.shape
    np.testing.assert_array_equal(raster.read(PART), whole[PART.slices])
    np.testing.assert_array_equal(raster.read(PART, [2, 0]), whole[PART.slices][..., [2, 0]])
    valid = raster.valid(PART)
    assert valid is None or valid.all()
    with pytest.raises(UserError, match=r"--level 3: .* has the levels 0 to 2"):
        open_raster(pyramid, level=3)
    with pytest.raises(UserError, match="one of the two"):
        open_raster(pyramid, level=0, mpp=1)


def test_resolutions(pyramid):
    """A level where there is one, else the next finer one, resampled."""
    assert open_raster(pyramid, mpp=0.25).width == 1200
    level = open_raster(pyramid, mpp=1.01)
    np.testing.assert_array_equal(level.read(PART), COLORS[::4, ::4][PART.slices])
    half = open_raster(pyramid, mpp=0.5)
    assert (half.height, half.width) == (452, 600)
    expected = ScaledRaster(open_raster(pyramid), 0.5).read(PART)
    np.testing.assert_array_equal(half.read(PART), expected)
    assert open_raster(pyramid, mpp=0.125).width == 2400
    with pytest.raises(UserError, match=r"--mpp 0.05: .* have 0.25, 1, 2, too coarse"):
        open_raster(pyramid, mpp=0.05)


def test_resolution_has_to_be_known(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", COLORS, photometric="rgb")
    tifffile.imwrite(tmp_path / "a.svs", COLORS, photometric="rgb", tile=(128, 128))
    np.save(tmp_path / "a.npy", COLORS)
    for name in ["a.tif", "a.npy"] + ["a.svs"] * bool(pytest.importorskip("openslide")):
        with pytest.raises(UserError, match=rf"--mpp 1: .*{name}"):
            open_raster(tmp_path / name, mpp=1)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_planes_and_untiled(tmp_path, dtype):
    planes = (RNG.random((5, 300, 4500)) * 4000).astype(dtype)
    path = save_ome(tmp_path / "a.ome.tif", planes, "CYX", tile=None, photometric="minisblack")
    raster = open_raster(path)
    assert (raster.height, raster.width, raster.count, raster.dtype) == (300, 4500, 5, dtype)
    expected = planes[[3, 0]].transpose(1, 2, 0)[PART.slices]
    np.testing.assert_array_equal(raster.read(PART, [3, 0]), expected)
    assert "gdal_translate -co TILED=YES" in raster.warning


def test_transparency(tmp_path):
    alpha = np.full((904, 1200, 1), 255, np.uint8)
    alpha[150:160, 100:120] = 0
    array = np.dstack([COLORS, alpha])
    path = save_ome(tmp_path / "a.ome.tif", array, photometric="rgb", extrasamples=["unassalpha"])
    raster = open_raster(path)
    assert raster.count == 3
    np.testing.assert_array_equal(raster.valid(PART), alpha[PART.slices][..., 0] > 0)
    np.testing.assert_array_equal(raster.read(PART), COLORS[PART.slices])


def test_damage_names_the_window_and_passes(pyramid):
    content = bytearray(pyramid.read_bytes())
    with tifffile.TiffFile(pyramid) as file:
        page = file.pages[0]
        first, length = page.dataoffsets[0], page.databytecounts[0]
    content[first : first + length] = bytes(length)
    pyramid.write_bytes(content)
    raster = open_raster(pyramid)
    for _ in range(2):
        with pytest.raises(OSError, match="rows 0 to 9, columns 0 to 9 cannot be read"):
            raster.read(Window(0, 0, 10, 10))
    np.testing.assert_array_equal(raster.read(Window(0, 128, 9, 9)), COLORS[:9, 128:137])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr(tmp_path, zarr_format):
    for axes in ("YXC", "CYX"):
        array = COLORS.transpose(["YXC".index(axis) for axis in axes])
        path = tmp_path / f"{axes}.zarr"
        zarr.create_array(path, data=array, chunks="auto", zarr_format=zarr_format)
        raster = open_raster(path)
        assert (raster.height, raster.width, raster.count) == COLORS.shape
        np.testing.assert_array_equal(raster.read(PART), COLORS[PART.slices])
    with pytest.raises(UserError, match=r"--level 1: .* has the levels 0 to 0"):
        open_raster(path, level=1)


def test_zarr_axes_of_its_own_and_groups(tmp_path):
    cube = RNG.random((4, 5, 6)).astype(">f4")  # no telling by size
    zarr.create_array(tmp_path / "a.zarr", data=cube, dimension_names=["y", "x", "band"])
    raster = open_raster(tmp_path / "a.zarr")
    assert (raster.height, raster.width, raster.count, raster.dtype) == (4, 5, 6, np.float32)
    group = zarr.open_group(tmp_path / "ome.zarr", mode="w")
    for level in (0, 1):
        group.create_array(f"s{level}", data=COLORS.transpose(2, 0, 1)[None, :, :: level + 1])
    with pytest.raises(UserError, match=r"is a group.*s0 s1"):
        open_raster(tmp_path / "ome.zarr")
    image = dict(axes=[{"name": axis} for axis in "tcyx"])
    image["datasets"] = [{"path": "s0"}, {"path": "s1"}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    raster = open_raster(tmp_path / "ome.zarr", level=1)
    np.testing.assert_array_equal(raster.read(PART), COLORS[::2][PART.slices])
