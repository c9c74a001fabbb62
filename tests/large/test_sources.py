"""What opens a file when packages are missing."""

import sys

import pytest

from xcit_dense.errors import UserError
from xcit_dense.large.sources import Window, open_raster


@pytest.mark.parametrize(
    ("package", "reader", "name", "extra"),
    [
        ("rasterio", "geo", "a.tif", "geo"),
        ("openslide", "slides", "a.svs", "slides"),
        ("tifffile", "pyramids", "a.ome.tif", "slides"),
        ("zarr", "pyramids", "a.ome.tif", "slides"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path, monkeypatch, package, reader, name, extra
):
    monkeypatch.delitem(sys.modules, f"xcit_dense.large.{reader}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).touch()
    if package == "zarr":
        pytest.importorskip("tifffile", reason="the extra slides is not installed")
    with pytest.raises(UserError, match=rf"{package} .* pip install 'xcit_dense\[{extra}\]'"):
        open_raster(tmp_path / name)


def test_windows_are_told_by_their_first_and_last_pixels():
    assert str(Window(10, 0, 5, 100)) == "rows 10 to 14, columns 0 to 99"
    assert Window(10, 0, 5, 100).slices == (slice(10, 15), slice(0, 100))
