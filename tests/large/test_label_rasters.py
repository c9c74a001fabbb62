"""rasterio reads label rasters as they were meant; a disk that is full leaves the old one."""

import json
import resource
import sys

import numpy as np
import pytest

from xcit_dense.errors import UserError
from xcit_dense.large.arrays import ArrayRaster
from xcit_dense.large.label_rasters import (
    label_raster,
    probability_raster,
    read_labels,
    read_thinned_labels,
)
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.sources import Georeference, Window
from xcit_dense.predict import Categories

try:
    import rasterio
except ModuleNotFoundError:
    rasterio = None
needs_rasterio = pytest.mark.skipif(rasterio is None, reason="the extra geo is not installed")

TRANSFORM = (0.5, 0.0, 400000.0, 0.0, -0.5, 5700000.0)
CATEGORIES = Categories(("field", "road & <rail>"), ((10, 200, 30), (250, 0, 5)))


def pixels_of(height, width, georeference=None):
    pixels = Pixels(ArrayRaster("a", lambda: np.zeros((height, width, 3), np.uint8), "YXC"))
    pixels.georeference = georeference
    return pixels


def parts_of(shape, side=256):
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield Window(top, left, min(side, shape[0] - top), min(side, shape[1] - left))


def write(path, labels, categories=CATEGORIES, side=256, georeference=None):
    with label_raster(path, pixels_of(*labels.shape, georeference), categories) as write:
        for window in parts_of(labels.shape, side):
            write(window, labels[window.slices])


@needs_rasterio
@pytest.mark.parametrize("side", [256, 100])
def test_labels(tmp_path, side):
    labels = np.random.default_rng(0).integers(0, 2, (600, 1100)).astype(np.uint8)
    labels[40:50] = 255
    path = tmp_path / "new" / "a.tif"
    georeference = Georeference(rasterio.CRS.from_epsg(25832).to_wkt(), TRANSFORM)
    write(path, labels, side=side, georeference=georeference)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), labels)
        assert (file.crs.to_epsg(), tuple(file.transform)[:6]) == (25832, TRANSFORM)
        assert (file.nodata, file.dtypes, file.count) == (255, ("uint8",), 1)
        assert file.profile["tiled"] and file.compression.name == "deflate"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and file.overviews(1)
        palette = file.colormap(1)
        assert [palette[i] for i in (0, 1, 255)] == [
            (10, 200, 30, 255),
            (250, 0, 5, 255),
            (0, 0, 0, 0),
        ]
        assert json.loads(file.tags()["classes"]) == list(CATEGORIES.names)
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.tif", "a.tif.aux.xml"]
    rasterio.shutil.copy(path, tmp_path / "a.vrt", driver="VRT")  # tells the names that GDAL knows
    assert "<Category>road &amp; &lt;rail&gt;</Category>" in (tmp_path / "a.vrt").read_text()
    np.testing.assert_array_equal(np.concatenate(list(read_labels(path))), labels)
    assert read_thinned_labels(path, (60, 110)).shape == (60, 110)


@needs_rasterio
def test_many_classes_and_no_place_on_earth(tmp_path):
    names = tuple(map(str, range(300)))
    labels = np.arange(280 * 290).reshape(280, 290).astype(np.uint16) % 300
    labels[0] = 65535
    write(tmp_path / "a.tif", labels, Categories(names, ((1, 2, 3),) * 300))
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "a.tif") as f,
    ):
        np.testing.assert_array_equal(f.read(1), labels)
        assert (f.nodata, f.dtypes, f.crs) == (65535, ("uint16",), None)
        assert f.colormap(1)[299] == (1, 2, 3, 255)


@needs_rasterio
def test_probabilities(tmp_path):
    probable = np.random.default_rng(0).random((2, 300, 400)).astype(np.float32)
    labels = probable.argmax(0).astype(np.uint8)
    labels[7:9] = 255
    with probability_raster(tmp_path / "p.tif", pixels_of(300, 400), CATEGORIES) as write:
        for window in parts_of(labels.shape):
            write(window, probable[(slice(None), *window.slices)], labels[window.slices])
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.descriptions == CATEGORIES.names
        found = file.read(masked=True) * np.array(file.scales)[:, None, None]
    assert found.mask[:, 7:9].all() and found.mask.mean() == 2 / 300
    assert abs(found - probable).max() < 0.5 / 254 + 1e-6


@needs_rasterio
def test_what_breaks_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), label_raster(path, pixels_of(300, 300), CATEGORIES) as write_part:
        write_part(Window(0, 0, 256, 256), np.zeros((256, 256), np.uint8))
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    assert path.read_bytes() == b"old"
    (tmp_path / ".a.tif.partial").write_bytes(b"of a run that was killed")
    write(path, np.zeros((300, 300), np.uint8))
    assert path.stat().st_size > 100


@needs_rasterio
@pytest.mark.parametrize("limit", [3000, 100_000, 123_000])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_a_full_disk_is_an_error(tmp_path, limit, kind):
    """Also where GDAL only finds out when it closes the file, and says nothing."""
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    labels = np.random.default_rng(0).integers(0, 2, (900, 900)).astype(np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=r"a\.tif.*: cannot be written"):
            if kind == "labels":
                write(path, labels)
            else:
                with probability_raster(path, pixels_of(900, 900), CATEGORIES) as write_part:
                    write_part(Window(0, 0, 900, 900), np.stack([labels, labels]), labels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_without_rasterio_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with (
        pytest.raises(UserError, match=r"a\.tif: .*pip install 'xcit_dense\[geo\]'"),
        label_raster(tmp_path / "a.tif", pixels_of(9, 9), CATEGORIES),
    ):
        pass
