"""GeoTIFFs for the tests of images of any size, and the command that predicts on them."""

import numpy as np
import pytest

from xcit_dense.cli import predict

rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")

WHERE = rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5700000)


def save(path, values):
    """A GeoTIFF of patches of colour, with values (H, W, bands) of which 0 is nodata."""
    height, width, count = values.shape
    kind = dict(driver="GTiff", dtype=values.dtype, nodata=0, compress="deflate")
    kind |= dict(tiled=True, blockxsize=128, blockysize=128, interleave="pixel")
    size = dict(height=height, width=width, count=count, crs="EPSG:25832", transform=WHERE)
    with rasterio.open(path, "w", **kind, **size) as file:
        file.write(np.moveaxis(values, -1, 0))
    return path


def patches(height, width, bands=3, dtype=np.uint8, high=255):
    cells = np.random.default_rng(0).integers(1, high, (height // 50 + 1, width // 50 + 1, bands))
    values = cells.repeat(50, axis=0).repeat(50, axis=1)[:height, :width].astype(dtype)
    values[:150, :200] = 0
    return values


def damage(path, row, column):
    """Overwrite the start of a block."""
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = bytes(40)
    path.write_bytes(content)


def run(model, inputs, out, *options):
    arguments = [model.config, model.checkpoint, *map(str, inputs), "--out", str(out), *options]
    return predict.main(arguments)
