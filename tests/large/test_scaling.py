"""Resampled rasters: the right values, without seams, without what has no data."""

import cv2
import numpy as np
import pytest

from xcit_dense.errors import UserError
from xcit_dense.large.arrays import ArrayRaster
from xcit_dense.large.scaling import ScaledRaster
from xcit_dense.large.sources import Georeference, Window

RNG = np.random.default_rng(0)


def raster(array, **options):
    return ArrayRaster("a.tif", lambda: array, "YXC", **options)


def whole(source):
    return Window(0, 0, source.height, source.width)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("scale", [0.5, 0.37, 0.1, 1, 1.7, 3])
def test_values_are_opencv_s_and_parts_those_of_the_whole(dtype, scale):
    array = (RNG.random((97, 131, 3)) * 250).astype(dtype)
    scaled = ScaledRaster(raster(array), scale)
    assert (scaled.height, scaled.width) == (round(97 * scale), round(131 * scale))
    found = scaled.read(whole(scaled))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    expected = cv2.resize(array, (scaled.width, scaled.height), interpolation=how)
    np.testing.assert_allclose(
        found.astype(float), expected, atol=1e-3 if dtype == "float32" else 1
    )
    part = Window(2, 3, scaled.height // 2, scaled.width // 2)
    np.testing.assert_array_equal(scaled.read(part), found[part.slices])
    assert found.dtype == dtype


def test_no_data_enters_no_mean():
    array = np.full((8, 8, 2), 100, np.uint8)
    array[:3] = 9, 0  # transparent
    scaled = ScaledRaster(raster(array, has_alpha=True), 0.5)
    valid = scaled.valid(whole(scaled))
    assert valid.tolist() == [[False] * 4] * 2 + [[True] * 4] * 2
    assert (scaled.read(whole(scaled))[valid] == 100).all()
    assert (scaled.read(Window(1, 0, 1, 4)) == 100).all()  # half of it has data
    numbers = np.full((8, 8, 1), 5, np.float32)
    numbers[:3] = np.nan
    found = ScaledRaster(raster(numbers), 0.5)
    values = found.read(whole(found))[..., 0]
    assert np.isnan(values[:2]).all()
    assert (values[2:] == 5).all()


def test_it_lies_where_it_lay():
    source = raster(np.zeros((50, 80, 1), np.uint8))
    source.georeference = Georeference("X", (2.0, 0.1, 10.0, 0.2, -3.0, 20.0))
    scaled = ScaledRaster(source, 0.5)
    np.testing.assert_allclose(scaled.georeference.transform, (4, 0.2, 10, 0.4, -6, 20))
    with pytest.raises(UserError, match="--scale 0: has to be above 0"):
        ScaledRaster(source, 0)
