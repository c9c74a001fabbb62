"""What of a raster becomes the pixels of a model, or the reason why nothing does."""

import numpy as np
import pytest

from xcit_dense.errors import UserError
from xcit_dense.large.arrays import ArrayRaster
from xcit_dense.large.pixels import Pixels, parse_bands
from xcit_dense.large.sources import Window

RNG = np.random.default_rng(0)
PART = Window(200, 90, 130, 260)


def raster(array, **options):
    return ArrayRaster("a.tif", lambda: array, "YXC", **options)


def values(dtype, count=3, high=4000):
    return (RNG.random((700, 1100, count)) * high).astype(dtype)


def test_bands_by_their_number():
    three, one, four = values("uint8", 3), values("uint8", 1), values("uint8", 4)
    assert np.array_equal(Pixels(raster(three)).read(PART), three[PART.slices][..., ::-1])
    assert np.array_equal(Pixels(raster(one)).read(PART), one[PART.slices].repeat(3, 2))
    chosen = Pixels(raster(four), (4, 3, 2))
    assert np.array_equal(chosen.read(PART), four[PART.slices][..., [1, 2, 3]])
    assert chosen.read(PART).flags.c_contiguous
    assert str(chosen) == "bands 4,3,2 as red, green, blue"
    assert np.array_equal(Pixels(raster(four), (1, 2, 3, 4)).read(PART), four[PART.slices])
    masked = Pixels(raster(four, has_alpha=True))
    assert np.array_equal(masked.read(PART), four[PART.slices][..., 2::-1])
    assert np.array_equal(masked.valid(PART), four[PART.slices][..., 3] > 0)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_bands_that_have_to_be_named(count):
    several = raster(values("uint8", count))
    several.names = ("blue", "", *[""] * (count - 2))
    with pytest.raises(UserError, match=rf"has {count} bands \(1 blue\).*--bands 3,2,1"):
        Pixels(several)


def test_bands_that_are_not_there():
    for bands, text in [((0, 1, 2), "0,1,2"), ((4,), "4"), ((), "")]:
        with pytest.raises(UserError, match=f"--bands {text}: a.tif has the bands 1 to 3"):
            Pixels(raster(values("uint8")), bands)
    assert parse_bands("4,3,2") == (4, 3, 2)
    with pytest.raises(UserError, match="--bands 4-2: has to be numbers"):
        parse_bands("4-2")


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float32", "float64", "int8"])
def test_more_than_8_bits_want_limits(dtype):
    with pytest.raises(
        UserError, match=f"values are {dtype}, about .* to 1.*--stretch 0,4095 or 2%"
    ):
        Pixels(raster(values(dtype, high=120)))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_stretching_between_values(dtype):
    array = values(dtype)
    pixels = Pixels(raster(array), (3, 2, 1), "1000,3000")
    exact = np.clip((array[PART.slices].astype(float) - 1000) / 2000, 0, 1) * 255
    found = pixels.read(PART).astype(float)
    assert np.abs(found - exact).max() < 0.501
    assert str(pixels).endswith("blue, stretched from 1000 to 3000, 1000 to 3000, 1000 to 3000")


def test_large_offsets_keep_their_precision():
    array = np.arange(1_700_000_000, 1_700_000_256, dtype=np.int32).reshape(16, 16, 1)
    pixels = Pixels(raster(array), stretch="1700000000,1700000255")
    assert np.array_equal(pixels.read(Window(0, 0, 16, 16))[..., 0].ravel(), np.arange(256))


def test_percentiles_are_those_of_the_whole_and_of_each_band():
    array = (RNG.random((3000, 2500, 3)) * (100, 1000, 10000)).astype(np.uint16)
    array[:, 1250:] //= 2
    pixels = Pixels(raster(array), stretch="2%,98%")
    exact = np.percentile(array.reshape(-1, 3), [2, 98], axis=0).T
    np.testing.assert_allclose(pixels.limits, exact, rtol=0.01, atol=1)
    whole = pixels.read(Window(0, 0, 3000, 2500))
    assert np.array_equal(pixels.read(PART), whole[PART.slices])


def test_no_data_counts_neither_as_dark_nor_as_valid():
    array = values("float32", 1) + 1000
    array[:, :500] = np.nan
    array[:, 500:600] = np.inf
    pixels = Pixels(raster(array), stretch="0%,100%")
    assert 1000 <= pixels.limits[0, 0] < 1010
    wide = Window(0, 400, 10, 300)
    np.testing.assert_array_equal(
        pixels.valid(wide), np.arange(400, 700)[None].repeat(10, 0) >= 600
    )
    assert not pixels.read(wide)[:, :100].any()
    alone = np.dstack([array, values("float32", 1)])
    assert Pixels(raster(alone), (2,), "0,1").valid(wide).all()  # NaN of other bands is nothing
    with pytest.raises(UserError, match=r"no data at .* places"):
        Pixels(raster(array[:, :400]), stretch="2%,98%")


@pytest.mark.parametrize(
    "stretch", ["2,1", "2%,98", "-1%,98%", "0%,101%", "x", "1", "0,nan", "", "1,2,3"]
)
def test_limits_that_are_none(stretch):
    with pytest.raises(UserError, match=f"--stretch {stretch}: has to be none, two values"):
        Pixels(raster(values("uint16")), stretch=stretch)


def test_percentiles_that_are_equal_and_values_that_are_no_numbers():
    array = np.zeros((700, 1100, 1), np.uint16)
    array[:7] = 3
    with pytest.raises(UserError, match=r"both are 0 in band 1 of a\.tif; name values"):
        Pixels(raster(array), stretch="2%,98%")
    with pytest.raises(UserError, match=r"a\.tif: its values are complex64, not real"):
        Pixels(raster(array.astype(np.complex64)))


def test_small_rasters_are_looked_at_whole():
    array = np.arange(15, dtype=np.uint16).reshape(3, 5, 1)
    assert Pixels(raster(array), stretch="0%,100%").limits.tolist() == [[0, 14]]
