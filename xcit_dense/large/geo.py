"""Rasters that GDAL reads, by rasterio: GeoTIFF, COG, VRT, JPEG 2000 and many more."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from xcit_dense.errors import UserError
from xcit_dense.large.sources import (
    Georeference,
    Window,
    check_level,
    unreadable,
    warning_of_blocks,
)

_CACHE = 128 * 1024 * 1024  # bytes of decoded blocks, of all rasters; GDAL's own is 5% of memory


class GeoRaster:
    """A raster of GDAL's; see :class:`xcit_dense.large.sources.Raster`.

    A palette is looked up and gives three bands, as does grey of less than 8 bits. A last band that
    is alpha is no band but says what is valid, as do masks and nodata values.

    Args:
        path: the file.
        level: 0, or the number of an overview, from 1.
        driver: which of GDAL's reads it; any if not said.

    Raises:
        UserError: it has no such level, or no bands but other rasters in it.
        rasterio.errors.RasterioError: it cannot be opened.
    """

    def __init__(self, path: Path, level: int = 0, driver: str | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._dataset = rasterio.open(path, driver=driver)
            if self._dataset.count == 0:
                inside = " ".join(self._dataset.subdatasets) or "nothing"
                raise UserError(f"{path}: holds several rasters; extract one first, of {inside}")
            check_level(path, level, 1 + len(self._dataset.overviews(1)))
            if level:
                self._dataset = rasterio.open(path, driver=driver, overview_level=level - 1)
            dataset = self._dataset
            transform = dataset.transform
        self.path = str(path)
        self.height, self.width = dataset.shape
        colors = dataset.colorinterp
        self._palette = _palette(dataset)
        self.count = dataset.count - (dataset.count > 1 and colors[-1] == ColorInterp.alpha)
        described = zip(dataset.descriptions, colors, strict=True)
        self.names = tuple(text or _name(color) for text, color in described)[: self.count]
        self.dtype = np.result_type(*dataset.dtypes[: self.count])
        if self._palette is not None:
            self.count, self.names, self.dtype = 3, ("red", "green", "blue"), np.dtype(np.uint8)
        self.georeference = None
        if dataset.crs or transform != Affine.identity():
            crs = dataset.crs.to_wkt() if dataset.crs else ""
            self.georeference = Georeference(crs, tuple(transform)[:6])
        self.warning = warning_of_blocks(self.path, dataset.block_shapes[0], dataset.shape)

    def read(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray:
        """See :class:`xcit_dense.large.sources.Raster`."""
        if self._palette is None:
            return np.moveaxis(self._read("read", window, bands, out_dtype=self.dtype), 0, -1)
        colors = self._palette[self._read("read", window, [0])[0]][..., :3]
        return colors if bands is None else colors[..., list(bands)]

    def valid(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray | None:
        """See :class:`xcit_dense.large.sources.Raster`."""
        bands = [0] if self._palette is not None else bands
        valid = None
        if any(MaskFlags.all_valid not in flags for flags in self._dataset.mask_flag_enums):
            valid = self._read("read_masks", window, bands).any(axis=0)
        if self._palette is not None and not self._palette[:, 3].all():
            visible = self._palette[self._read("read", window, [0])[0]][..., 3] > 0
            return visible if valid is None else visible & valid
        return valid

    def _read(self, kind: str, window: Window, bands: Sequence[int] | None, **how) -> np.ndarray:
        """Values or masks, (bands, height, width)."""
        part = RasterioWindow(window.left, window.top, window.width, window.height)
        indexes = [band + 1 for band in (range(self.count) if bands is None else bands)]
        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE):
                return getattr(self._dataset, kind)(indexes, window=part, **how)
        except RasterioError as error:
            raise unreadable(self.path, window, error) from error


def _palette(dataset: rasterio.DatasetReader) -> np.ndarray | None:
    """The red, green, blue and alpha of each value, uint8 (values, 4), if these are not the values.

    Values of less than 8 bits are grey.
    """
    bits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if dataset.colorinterp[0] == ColorInterp.palette:
        table = np.zeros((np.iinfo(dataset.dtypes[0]).max + 1, 4), np.uint8)
        for value, color in dataset.colormap(1).items():
            table[value] = color
        return table
    if dataset.count == 1 and bits < 8:
        grey = np.linspace(0, 255, 2**bits).astype(np.uint8)
        return np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=1)
    return None


def _name(color: ColorInterp) -> str:
    return "" if color in (ColorInterp.undefined, ColorInterp.gray) else color.name
