"""Rasters that are arrays: in memory, mapped from a file, or of zarr's."""

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from xcit_dense.errors import UserError
from xcit_dense.large.sources import Georeference, Window, retile, unreadable
from xcit_dense.predict.inputs import read_image

_LARGE = 179_000_000  # pixels, as many as Pillow takes for an honest image
_LARGEST = 2**30  # pixels, as many as OpenCV decodes


class ArrayRaster:
    """A raster that is an array; see :class:`xcit_dense.large.sources.Raster`.

    Args:
        path: what messages call it.
        array: gives what has ``shape`` and ``dtype`` and can be cut; called anew for every read.
        axes: a letter an axis: Y, X, C (bands) or another one, of which the first is taken.
        has_alpha: the last band is no band but says what is valid.
        warning: see :class:`xcit_dense.large.sources.Raster`.
    """

    georeference: Georeference | None = None

    def __init__(
        self,
        path: Path | str,
        array: Callable[[], np.ndarray],
        axes: str,
        has_alpha: bool = False,
        warning: str = "",
    ) -> None:
        shape, dtype = array().shape, array().dtype
        sizes = dict(zip(axes, shape, strict=True))
        self.path, self.warning = str(path), warning
        self.height, self.width = sizes["Y"], sizes["X"]
        self.count = sizes.get("C", 1) - has_alpha
        self.names = ("",) * self.count
        self.dtype = dtype.newbyteorder("=")
        self._array, self._axes, self._has_alpha = array, axes, has_alpha

    def read(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray:
        """See :class:`xcit_dense.large.sources.Raster`."""
        bands = range(self.count) if bands is None else bands
        first, last = min(bands), max(bands) + 1
        rows, columns = window.slices
        cuts = {"Y": rows, "X": columns, "C": slice(first, last)}
        try:
            values = np.array(self._array()[tuple(cuts.get(axis, 0) for axis in self._axes)])
        except Exception as error:  # as decoders do, each in its way
            raise unreadable(self.path, window, error) from error
        left = [axis for axis in self._axes if axis in cuts]
        if "C" not in left:
            values, left = values[..., None], [*left, "C"]
        values = values.transpose([left.index(axis) for axis in "YXC"])
        return values[..., [band - first for band in bands]].astype(self.dtype, copy=False)

    def valid(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray | None:
        """See :class:`xcit_dense.large.sources.Raster`."""
        return self.read(window, [self.count])[..., 0] > 0 if self._has_alpha else None


def map_array(path: Path) -> ArrayRaster:
    """A ``.npy`` file: (H, W), (H, W, C) or (C, H, W).

    It is mapped anew for every read, since pages that were read count as memory of the process for
    as long as they are mapped.

    Raises:
        UserError: it is no such array, or either of two axes could be that of the bands.
    """

    def array() -> np.ndarray:
        return np.load(path, mmap_mode="r", allow_pickle=False)

    return ArrayRaster(path, array, guess_axes(array().shape, path))


def guess_axes(shape: tuple[int, ...], path: Path) -> str:
    """YX, YXC or CYX: bands are the shorter one of the first and the last axis, by half or more.

    Raises:
        UserError: the shape is another, or either axis could be it.
    """
    if len(shape) == 2:
        return "YX"
    if len(shape) != 3:
        raise UserError(f"{path}: has the shape {shape}, not (H, W), (H, W, C) or (C, H, W)")
    first, middle, last = shape
    if 2 * first <= last and first < middle:
        return "CYX"
    if 2 * last <= first and last < middle:
        return "YXC"
    raise UserError(
        f"{path}: of the shape {shape} either end could be the bands; leave out bands that are not "
        "needed, or save each as an array (H, W)"
    )


def decode_image(path: Path) -> ArrayRaster:
    """What OpenCV decodes, whole: up to 2^30 pixels, red, green, blue; 16 bits and floats stay.

    Raises:
        UserError: it has more pixels, or what :func:`xcit_dense.predict.inputs.read_image` raises.
    """
    loader = LoadImageFromFile(color_type=cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    by_parts = f"read by parts after\n  {retile(str(path))}"
    try:
        with mock.patch.object(
            Image, "MAX_IMAGE_PIXELS", _LARGEST // 2
        ):  # Pillow allows the double
            pixels = read_image(path, loader)[..., ::-1]
    except UserError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise UserError(f"{path}: is too large to be decoded whole; {by_parts}") from error
        raise
    warning = ""
    if pixels.size > 3 * _LARGE:
        size = f"{pixels.nbytes / 2**30:.1f} GiB"
        warning = f"{path}: is held in memory, {size}; {by_parts}"
    raster = ArrayRaster(path, lambda: pixels, "YXC", warning=warning)
    raster.names = ("red", "green", "blue")
    return raster
