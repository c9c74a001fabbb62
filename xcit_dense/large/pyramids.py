"""Rasters of zarr's: its arrays, OME-Zarr, and the pyramids that tifffile finds in TIFF."""

from pathlib import Path

import tifffile
import zarr

from xcit_dense.errors import UserError
from xcit_dense.large.arrays import ArrayRaster, guess_axes
from xcit_dense.large.scaling import at_resolution
from xcit_dense.large.sources import Raster, check_level, warning_of_blocks

_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)


def open_pyramid(path: Path, level: int | None = None, mpp: float | None = None) -> Raster:
    """The first image of a TIFF of any kind that tifffile knows; see ``open_raster``.

    Raises:
        UserError: it has no such level, does not say its resolution, or has a palette.
    """
    series = tifffile.TiffFile(path).series[0]
    page = series.keyframe
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise UserError(f"{path}: has a palette; gdal_translate -expand rgb looks it up")
    # S: samples of a pixel, C: channels in planes of their own
    axes = series.axes if "C" in series.axes else series.axes.replace("S", "C")
    has_alpha = page.extrasamples[-1:] in [(kind,) for kind in _ALPHA]

    def at_level(number: int) -> ArrayRaster:
        check_level(path, number, len(series.levels))
        array = zarr.open_array(series.aszarr(level=number), mode="r")
        y, x = axes.index("Y"), axes.index("X")
        block, size = ((of[y], of[x]) for of in (array.chunks, array.shape))
        warning = warning_of_blocks(str(path), block, size)
        return ArrayRaster(path, lambda: array, axes, has_alpha, warning)

    if mpp is None:
        return at_level(level or 0)
    if page.resolutionunit == tifffile.RESUNIT.NONE:
        raise UserError(f"--mpp {mpp:g}: {path} does not say how large its pixels are")
    finest = 1 / page.get_resolution(unit="MICROMETER")[0]
    width = axes.index("X")
    of_levels = [finest * series.shape[width] / each.shape[width] for each in series.levels]
    return at_resolution(path, at_level, of_levels, mpp)


def open_zarr(path: Path, level: int | None = None) -> ArrayRaster:
    """An array of zarr's, (H, W), (H, W, C), (C, H, W), or an image in OME-Zarr.

    Raises:
        UserError: no such level, another group, or axes that cannot be told apart.
    """
    opened = zarr.open(path, mode="r")
    if isinstance(opened, zarr.Array):
        check_level(path, level or 0, 1)
        names = getattr(opened.metadata, "dimension_names", None) or ()
        known = len(names) == opened.ndim and {"y", "x"} <= set(names)
        axes = _letters(names) if known else guess_axes(opened.shape, path)
        return ArrayRaster(path, lambda: opened, axes)
    attributes = opened.attrs.get("ome", opened.attrs)
    if "multiscales" not in attributes:
        inside = " ".join(sorted(opened.array_keys())) or "no arrays"
        raise UserError(f"{path}: is a group, not an array or OME-Zarr; name one of its {inside}")
    image = attributes["multiscales"][0]
    check_level(path, level or 0, len(image["datasets"]))
    array = opened[image["datasets"][level or 0]["path"]]
    names = [each if isinstance(each, str) else each["name"] for each in image["axes"]]
    return ArrayRaster(path, lambda: array, _letters(names))


def _letters(names: list[str]) -> str:
    """The axes y, x and c (or band, channel) by their letters; others by a dot."""
    known = {"y": "Y", "x": "X", "c": "C", "band": "C", "channel": "C"}
    return "".join(known.get(name, ".") for name in names)
