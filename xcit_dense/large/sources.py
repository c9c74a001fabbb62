"""Pictures of any size that give their parts, whatever file they lie in."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.predict.inputs import IMAGE_SUFFIXES

# what OpenSlide is asked for; other TIFFs are tifffile's
SLIDE_SUFFIXES = frozenset(
    {".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu"}
)
# formats that GDAL reads by parts, though OpenCV knows them too; a file is what it is called, since
# GDAL's other formats may name files and addresses elsewhere
_DRIVERS = {".jp2": "JP2OpenJPEG", ".tif": "GTiff", ".tiff": "GTiff"}
_LONGEST_BLOCK = 4096  # pixels; sides of tiles are at most 2048 as a rule


class Window(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    def __str__(self) -> str:
        rows = f"rows {self.top} to {self.top + self.height - 1}"
        return f"{rows}, columns {self.left} to {self.left + self.width - 1}"

    @property
    def slices(self) -> tuple[slice, slice]:
        """What cuts the window out of an array (H, W, ...)."""
        bottom, right = self.top + self.height, self.left + self.width
        return slice(self.top, bottom), slice(self.left, right)


class Georeference(NamedTuple):
    """Where a picture lies.

    Attributes:
        crs: the coordinate reference system in WKT; empty where only the transform is known.
        transform: a, b, c, d, e, f of x = a column + b row + c, y = d column + e row + f, for the
            upper left corner of a pixel.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]


class Raster(Protocol):
    """A picture of any size that gives its parts.

    Attributes:
        path: its file, for messages.
        height: rows of pixels.
        width: columns of pixels.
        count: bands, without those that say where the picture is transparent.
        names: what the file calls each band, such as ``red``; empty where it says nothing.
        dtype: of the values of all bands.
        georeference: where it lies, if that is known.
        warning: what makes it slow to read and what to do about that, else empty.
    """

    path: str
    height: int
    width: int
    count: int
    names: tuple[str, ...]
    dtype: np.dtype
    georeference: Georeference | None
    warning: str

    def read(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray:
        """The values of a part of the raster.

        Args:
            window: lies in the raster.
            bands: which ones, counted from 0; all if not said.

        Returns:
            (height, width, bands), of the raster's own dtype.

        Raises:
            OSError: they cannot be read, as of a damaged block; names file and window.
        """

    def valid(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray | None:
        """Where a part of the raster has data: bool (height, width); None: everywhere.

        No data has what is transparent or masked out, or holds the nodata value in all of the
        ``bands``. NaN counts as a value here. Raises as :meth:`read`.
        """


def open_raster(path: Path | str, level: int | None = None, mpp: float | None = None) -> Raster:
    """Open a picture of any size; how is decided by what the file is called.

    ============================================  ==========================  ===================
    ``.npy``                                      NumPy, mapped
    folders of zarr's, OME-Zarr                   zarr                        extra ``slides``
    ``.svs``, ``.ndpi``, ``.mrxs``... (slides)    OpenSlide                   extra ``slides``
    ``.ome.tif``, TIFF with ``mpp``               tifffile and zarr           extra ``slides``
    ``.tif``, ``.jp2``, ``.vrt``, all others      rasterio                    extra ``geo``
    ``.jpg``, ``.png`` and so on                  OpenCV, whole
    ============================================  ==========================  ===================

    Args:
        path: a file, or a folder of zarr's.
        level: of a pyramid, or of a raster with overviews; 0 is the finest and what is taken else.
        mpp: micrometres a pixel, as slides say them; read from the coarsest level that is at least
            as fine, and resampled to it.

    Raises:
        UserError: it is missing, cannot be opened, has no such level, or a package is missing.
    """
    path = Path(path)
    if level is not None and mpp is not None:
        raise UserError(f"--level {level} --mpp {mpp:g}: one of the two, both choose the level")
    if not path.exists():
        raise UserError(f"{path}: not found")
    suffix = path.suffix.lower()
    is_tiff = suffix in (".tif", ".tiff")
    try:
        if suffix in SLIDE_SUFFIXES:
            return _reader("slides", path, "slides").open_slide(path, level, mpp)
        if is_tiff and (mpp is not None or path.stem.lower().endswith(".ome")):
            return _reader("pyramids", path, "slides").open_pyramid(path, level, mpp)
        if mpp is not None:
            raise UserError(f"--mpp {mpp:g}: {path} is no slide and knows no micrometres a pixel")
        if path.is_dir():
            return _reader("pyramids", path, "slides").open_zarr(path, level)
        if suffix == ".npy" or suffix in IMAGE_SUFFIXES - _DRIVERS.keys():
            check_level(path, level or 0, 1)
            arrays = _reader("arrays", path)
            return arrays.map_array(path) if suffix == ".npy" else arrays.decode_image(path)
        return _reader("geo", path, "geo").GeoRaster(path, level or 0, _DRIVERS.get(suffix))
    except UserError:
        raise
    except Exception as error:  # what a library raises for damaged bytes is anyone's guess
        raise UserError(f"{path}: cannot be opened ({in_one_line(error)})") from error


def _reader(name: str, path: Path, extra: str = "") -> ModuleType:
    """A module beside this one, whose packages may be missing."""
    try:
        return import_module(f"xcit_dense.large.{name}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: {error.name} would read it and is not installed: "
            f"pip install 'xcit_dense[{extra}]'"
        ) from error


def check_level(path: Path, level: int, count: int) -> None:
    """Raise a UserError where a pyramid of so many levels does not have one."""
    if not 0 <= level < count:
        raise UserError(f"--level {level}: {path} has the levels 0 to {count - 1}")


def unreadable(path: str, window: Window, error: Exception) -> OSError:
    """The error of a part that cannot be read."""
    return OSError(f"{path}: {window} cannot be read ({in_one_line(error)})")


def warning_of_blocks(path: str, block: tuple[int, int], size: tuple[int, int]) -> str:
    """What to say of a raster (height, width) that is stored in blocks of a size."""
    height, width = (min(pair) for pair in zip(block, size, strict=True))
    if max(height, width) <= _LONGEST_BLOCK:
        return ""
    cost = "all of it" if (height, width) == size else f"whole rows of {width} pixels"
    return f"{path}: is not tiled, every window reads {cost}; quick to read after\n  {retile(path)}"


def retile(path: str) -> str:
    """The command that writes a raster anew so that parts are quickly read."""
    tiled = Path(path).with_suffix("").name + "_tiled.tif"
    options = "-co TILED=YES -co COMPRESS=DEFLATE -co BIGTIFF=IF_SAFER"
    return f"gdal_translate {options} {path} {tiled}"
