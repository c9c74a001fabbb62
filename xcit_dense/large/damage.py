"""Rasters with damaged blocks: what can be read is predicted on, the rest is nodata."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from xcit_dense.large.pixels import Pixels
from xcit_dense.large.sources import Window

_SIDE = 256  # of the squares that are read one by one where a part cannot be read


class SalvagedPixels(Pixels):
    """Pixels that are nodata where the raster is damaged, by squares of 256 pixels.

    :meth:`valid` knows of damage where the part, or one that it lies in, was read before.

    Attributes:
        damage: of each square that cannot be read, what the raster says.
    """

    def __init__(self, *args, **how) -> None:
        super().__init__(*args, **how)
        self.damage: dict[Window, str] = {}

    def read(self, window: Window) -> np.ndarray:
        """See :class:`xcit_dense.large.pixels.Pixels`; zeros where it is damaged."""
        try:
            return super().read(window)
        except OSError:
            bands = 3 if len(self.bands) == 1 else len(self.bands)
            image = np.zeros((window.height, window.width, bands), np.uint8)
            for square in self._whole_squares(window):
                shared = _shared(window, square)
                image[_place_in(window, shared)] = super().read(shared)
            return image

    def valid(self, window: Window) -> np.ndarray | None:
        """See :class:`xcit_dense.large.pixels.Pixels`; False where it is damaged."""
        if self.damage.keys().isdisjoint(self._squares(window)):
            try:
                return super().valid(window)
            except OSError:  # a mask's
                pass
        valid = np.zeros((window.height, window.width), bool)
        for square in self._whole_squares(window):
            shared = _shared(window, square)
            part = super().valid(shared)
            valid[_place_in(window, shared)] = True if part is None else part
        return valid

    def _squares(self, window: Window) -> Iterator[Window]:
        """The squares that a window reaches into, whole but at the ends of the raster."""
        sides = ((window.top, window.height), (window.left, window.width))
        steps = (range(first // _SIDE * _SIDE, first + length, _SIDE) for first, length in sides)
        for top, left in product(*steps):
            height, width = min(_SIDE, self.height - top), min(_SIDE, self.width - left)
            yield Window(top, left, height, width)

    def _whole_squares(self, window: Window) -> Iterator[Window]:
        """Those of them that can be read."""
        for square in self._squares(window):
            if square in self.damage:
                continue
            try:
                super().read(square)
                super().valid(square)
            except OSError as error:
                self.damage[square] = str(error)
            else:
                yield square


def _shared(window: Window, square: Window) -> Window:
    top, left = max(window.top, square.top), max(window.left, square.left)
    bottom = min(window.top + window.height, square.top + square.height)
    right = min(window.left + window.width, square.left + square.width)
    return Window(top, left, bottom - top, right - left)


def _place_in(window: Window, part: Window) -> tuple[slice, slice]:
    return part._replace(top=part.top - window.top, left=part.left - window.left).slices
