"""Microscopes' slides, by OpenSlide."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openslide

from xcit_dense.errors import UserError
from xcit_dense.large.scaling import at_resolution
from xcit_dense.large.sources import Georeference, Raster, Window, check_level, unreadable


class SlideRaster:
    """A level of a slide, red, green, blue; see :class:`xcit_dense.large.sources.Raster`.

    What was not scanned has no data.
    """

    count, names, dtype = 3, ("red", "green", "blue"), np.dtype(np.uint8)
    georeference: Georeference | None = None
    warning = ""

    def __init__(self, path: Path, level: int = 0) -> None:
        self.path, self._level = str(path), level
        self._slide = openslide.OpenSlide(path)
        check_level(path, level, self._slide.level_count)
        self.width, self.height = self._slide.level_dimensions[level]
        self._downsample = self._slide.level_downsamples[level]

    def read(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray:
        """See :class:`xcit_dense.large.sources.Raster`."""
        colors = self._read(window)[..., :3]
        return colors if bands is None else colors[..., list(bands)]

    def valid(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray | None:
        """See :class:`xcit_dense.large.sources.Raster`."""
        return self._read(window)[..., 3] > 0

    def _read(self, window: Window) -> np.ndarray:
        corner = (round(window.left * self._downsample), round(window.top * self._downsample))
        size = (window.width, window.height)
        try:
            return np.asarray(self._slide.read_region(corner, self._level, size))
        except openslide.OpenSlideError as error:
            self._slide = openslide.OpenSlide(self.path)  # one that failed fails for ever
            raise unreadable(self.path, window, error) from error


def open_slide(path: Path, level: int | None = None, mpp: float | None = None) -> Raster:
    """A slide at a level or a resolution; see ``open_raster``.

    Raises:
        UserError: it has no such level, or does not say its resolution.
    """
    if mpp is None:
        return SlideRaster(path, level or 0)
    with openslide.OpenSlide(path) as slide:
        if openslide.PROPERTY_NAME_MPP_X not in slide.properties:
            raise UserError(f"--mpp {mpp:g}: {path} does not say how large its pixels are")
        finest = float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
        of_levels = [finest * each for each in slide.level_downsamples]
    return at_resolution(path, lambda number: SlideRaster(path, number), of_levels, mpp)
