"""Rasters at another size than they are stored in, part by part the same as whole."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from xcit_dense.errors import UserError
from xcit_dense.large.sources import Georeference, Raster, Window

_NEAR = 0.02  # relative; a level that is so close to the wanted resolution is taken as it is


class ScaledRaster:
    """A raster, resampled; see :class:`xcit_dense.large.sources.Raster`.

    Smaller, a pixel is the mean of the area that it covers, larger, it is interpolated linearly.
    What has no data, or is NaN, enters no mean; where it is half or more, there is no data.

    Args:
        raster: what is resampled.
        scale: size of the new one by that of ``raster``, above 0.
    """

    def __init__(self, raster: Raster, scale: float) -> None:
        if not scale > 0:
            raise UserError(f"--scale {scale:g}: has to be above 0")
        self._raster = raster
        self.path, self.warning = raster.path, raster.warning
        self.count, self.names, self.dtype = raster.count, raster.names, raster.dtype
        self.height = max(round(raster.height * scale), 1)
        self.width = max(round(raster.width * scale), 1)
        self.georeference = raster.georeference
        if raster.georeference:
            a, b, c, d, e, f = raster.georeference.transform
            x, y = raster.width / self.width, raster.height / self.height
            transform = (a * x, b * y, c, d * x, e * y, f)
            self.georeference = Georeference(raster.georeference.crs, transform)

    def read(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray:
        """See :class:`xcit_dense.large.sources.Raster`."""
        part, taps = self._taps(window)
        values = self._raster.read(part, bands)
        valid = self._raster.valid(part, bands)
        exact = np.result_type(self.dtype, np.float32)
        has_value = np.isfinite(values)
        if valid is not None:
            has_value &= valid[..., None]
        if has_value.all():
            resampled = _resample(values.astype(exact), taps)
        else:
            share = _resample(has_value.astype(exact), taps)
            resampled = _resample(np.where(has_value, values, 0).astype(exact), taps)
            resampled /= np.maximum(share, 1e-6)
            if self.dtype.kind == "f":
                resampled[share <= 0.5] = np.nan
        if self.dtype.kind == "f":
            return resampled.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(resampled), limits.min, limits.max).astype(self.dtype)

    def valid(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray | None:
        """See :class:`xcit_dense.large.sources.Raster`."""
        part, taps = self._taps(window)
        valid = self._raster.valid(part, bands)
        return None if valid is None else _resample(valid.astype(np.float32), taps) > 0.5

    def _taps(self, window: Window) -> tuple[Window, list[tuple[np.ndarray, np.ndarray]]]:
        """What to read for a window, and what to take of its rows and columns."""
        sides = [
            _taps(first, length, new, old)
            for first, length, new, old in (
                (window.top, window.height, self.height, self._raster.height),
                (window.left, window.width, self.width, self._raster.width),
            )
        ]
        (top, height), (left, width) = ((int(i.min()), int(np.ptp(i)) + 1) for i, _ in sides)
        taps = [(indexes - indexes.min(), weights) for indexes, weights in sides]
        return Window(top, left, height, width), taps


def _taps(first: int, length: int, new: int, old: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``old`` pixels go into each of ``new``, and how much: twice (length, taps)."""
    ratio = old / new
    position = np.arange(first, first + length)[:, None]
    if ratio >= 1:
        start = position * ratio
        indexes = np.floor(start).astype(int) + np.arange(int(np.ceil(ratio)) + 1)
        weights = np.minimum(start + ratio, indexes + 1) - np.maximum(start, indexes)
        weights = np.maximum(weights, 0) / ratio
    else:
        center = (position + 0.5) * ratio - 0.5
        indexes = np.floor(center).astype(int) + np.arange(2)
        weights = 1 - np.abs(center - indexes)
    return np.clip(indexes, 0, old - 1), weights


def _resample(values: np.ndarray, taps: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Weighted sums over rows, then over columns."""
    for axis, (indexes, weights) in enumerate(taps):
        shape = [1] * values.ndim
        shape[axis] = len(indexes)
        weights = weights.astype(values.dtype)
        values = sum(
            values.take(index, axis) * weight.reshape(shape)
            for index, weight in zip(indexes.T, weights.T, strict=True)
        )
    return values


def at_resolution(
    path: Path, at_level: Callable[[int], Raster], of_levels: Sequence[float], mpp: float
) -> Raster:
    """A pyramid at a resolution: its coarsest level that is as fine, resampled where they differ.

    Args:
        path: for messages.
        at_level: opens a level.
        of_levels: micrometres a pixel of each level, finest first.
        mpp: those that are wanted.

    Raises:
        UserError: the pixels of the finest level are more than four times as large.
    """
    if not of_levels[0] / 4 <= mpp:
        known = ", ".join(f"{each:.4g}" for each in of_levels)
        raise UserError(f"--mpp {mpp:g}: the levels of {path} have {known}, too coarse for it")
    fine = [number for number, each in enumerate(of_levels) if each <= mpp * (1 + _NEAR)]
    level = max(fine, default=0)
    raster = at_level(level)
    scale = of_levels[level] / mpp
    return raster if abs(scale - 1) <= _NEAR else ScaledRaster(raster, scale)
