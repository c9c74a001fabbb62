"""Labels and probabilities as GeoTIFFs, written by parts, under their names when they are whole."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError, in_one_line
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.sources import Window
from xcit_dense.large.tiles import BLOCK, label_type
from xcit_dense.predict.results import Categories

NO_PROBABILITY = 255  # where there is no label; probabilities go from 0 to 254
_CACHE = 128 * 1024 * 1024  # bytes of blocks that GDAL keeps
_PIXELS_AT_ONCE = 2**22


@contextmanager
def label_raster(
    path: Path, pixels: Pixels, categories: Categories
) -> Iterator[Callable[[Window, np.ndarray], None]]:
    """Write labels as a cloud-optimized GeoTIFF that lies where the pixels lie.

    It has a palette, and the names of the classes: as JSON in the tag ``classes``, and in
    ``NAME.aux.xml`` beside it, where GDAL and QGIS look for them. The largest value, 255, or 65535
    where there are more than 255 classes, is nodata.

    Args:
        path: the file to make or replace.
        pixels: what is labelled.
        categories: names and colours of the labels.

    Yields:
        a function that writes the labels of a window. Windows that begin and end at multiples of
        ``BLOCK`` make the smallest file.

    Raises:
        OSError: it cannot be written; an older one is still there.
        UserError: rasterio is missing.
    """
    dtype = label_type(len(categories.names))
    nodata = int(np.iinfo(dtype).max)
    palette = {label: (*colour, 255) for label, colour in enumerate(categories.palette)}
    with _raster(path, pixels, is_cog=True, count=1, dtype=dtype, nodata=nodata) as dataset:
        dataset.write_colormap(1, {**palette, nodata: (0, 0, 0, 0)})
        dataset.update_tags(classes=json.dumps(categories.names))

        def write(window: Window, labels: np.ndarray) -> None:
            dataset.write(labels, 1, window=_bounds(window))

        yield write
    names = "".join(f"<Category>{escape(name)}</Category>" for name in categories.names)
    band = f'<PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand>'
    content = f"<PAMDataset>{band}</PAMDataset>\n".encode()
    write_atomically(path.with_name(f"{path.name}.aux.xml"), lambda file: file.write(content))


@contextmanager
def probability_raster(
    path: Path, pixels: Pixels, categories: Categories
) -> Iterator[Callable[[Window, np.ndarray, np.ndarray], None]]:
    """Write the probabilities of classes as a GeoTIFF, a band a class, each with its name.

    Values are uint8, 254 times the probability, as the bands' scale says; 255 is nodata.

    Yields:
        a function that writes probabilities (classes, height, width) of a window; its labels tell
        where they are nodata.

    Raises:
        OSError, UserError: as :func:`label_raster`.
    """
    count = len(categories.names)
    options = dict(count=count, dtype="uint8", nodata=NO_PROBABILITY, interleave="band")
    with _raster(path, pixels, is_cog=False, **options) as dataset:
        dataset.descriptions = categories.names
        dataset.scales = [1 / 254] * count

        def write(window: Window, probabilities: np.ndarray, labels: np.ndarray) -> None:
            scaled = np.rint(probabilities * 254).astype(np.uint8)
            scaled[:, labels == np.iinfo(labels.dtype).max] = NO_PROBABILITY
            dataset.write(scaled, window=_bounds(window))

        yield write


def read_labels(path: Path) -> Iterator[np.ndarray]:
    """The labels of a raster in bands (rows, width), from above."""
    with _opened(path) as dataset:
        rows = max(1, _PIXELS_AT_ONCE // dataset.width)
        for top in range(0, dataset.height, rows):
            window = Window(top, 0, min(rows, dataset.height - top), dataset.width)
            yield dataset.read(1, window=_bounds(window))


def read_thinned_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The labels of a raster at a smaller height and width: each is that of one pixel of many."""
    with _opened(path) as dataset:
        return dataset.read(1, out_shape=size)


@contextmanager
def _raster(path: Path, pixels: Pixels, is_cog: bool, **options: Any) -> Iterator[Any]:
    """A raster of rasterio's to write to, which at the end is renamed to ``path``."""
    rasterio = _rasterio(path)
    if pixels.georeference:
        options["transform"] = rasterio.Affine(*pixels.georeference.transform)
        options["crs"] = pixels.georeference.crs or None
    options |= dict(height=pixels.height, width=pixels.width, compress="deflate")
    options |= dict(tiled=True, blockxsize=BLOCK, blockysize=BLOCK, bigtiff="IF_SAFER")
    path.parent.mkdir(parents=True, exist_ok=True)
    tiled, optimized = (path.with_name(f".{path.name}.{end}") for end in ("partial", "cog.partial"))
    tiled.unlink(missing_ok=True)  # else GDAL looks at it first, and may fail
    try:
        with _opened(tiled, mode="w", driver="GTiff", **options) as dataset:
            yield dataset
        _check(tiled)
        if is_cog:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE):
                rasterio.shutil.copy(tiled, optimized, driver="COG", compress="deflate")
            _check(optimized)
            os.replace(optimized, tiled)
        os.replace(tiled, path)
    except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError) as error:
        reason = in_one_line(error.__cause__ or error)
        raise OSError(f"{path}: cannot be written ({reason})") from error
    finally:
        tiled.unlink(missing_ok=True)
        optimized.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, **how: Any) -> Iterator[Any]:
    """A dataset of rasterio's."""
    rasterio = _rasterio(path)
    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            dataset = rasterio.open(path, **how)
        with dataset:
            yield dataset


def _check(path: Path) -> None:
    """See that all blocks of a TIFF are in it, since GDAL says nothing if it cannot write the last.

    Raises:
        OSError: one is not.
    """
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    size = path.stat().st_size
    with _opened(path) as dataset:
        for band in dataset.indexes:
            for (row, column), _ in dataset.block_windows(band):
                offset, length = (
                    int(
                        dataset.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=band) or 0
                    )
                    for what in ("OFFSET", "SIZE")
                )
                if not 0 < offset + length <= size:
                    raise OSError(f"{path}: cannot be written whole; is the disk full?")


def _rasterio(path: Path) -> ModuleType:
    try:
        import rasterio
        import rasterio.shutil
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: rasterio writes it and is not installed: pip install 'xcit_dense[geo]'"
        ) from error
    return rasterio


def _bounds(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """A window as rasterio takes it."""
    rows, columns = window.slices
    return (rows.start, rows.stop), (columns.start, columns.stop)
