"""From what a raster holds to the pixels that a model is fed: which bands, which values."""

from collections.abc import Sequence

import numpy as np

from xcit_dense.errors import UserError
from xcit_dense.large.sources import Raster, Window

_PLACES, _SIDE = 32, 16  # a thinned read is of at most 32 x 32 places of 16 x 16 pixels


class Pixels:
    """A raster as the loader of a test pipeline would give it.

    Args:
        raster: where the values come from.
        bands: which ones, counted from 1: three are red, green, blue, one is taken for all three,
            other numbers go to the model in their order. If not said, the raster has to have one or
            three.
        stretch: which values become 0 and 255, with those between in proportion: ``none``, for 8
            bits; two values, ``0,4095``; or two percentiles, ``2%,98%``, of each band, from a
            thinned read of the whole.

    Attributes:
        height, width, georeference: those of the raster.
        bands: which ones were taken, counted from 1.
        limits: float (bands, 2), the values of each that become 0 and 255; None: all stay.

    Raises:
        UserError: no such bands or limits, values of more than 8 bits without limits, bands that
            have to be named, or no data where percentiles are looked for.
    """

    def __init__(
        self, raster: Raster, bands: Sequence[int] | None = None, stretch: str = "none"
    ) -> None:
        self.raster = raster
        self.height, self.width = raster.height, raster.width
        self.georeference = raster.georeference
        self.bands = _choose(raster, bands)
        self._indexes = [band - 1 for band in self.bands]
        self.limits = _limits(raster, self._indexes, stretch)

    def __str__(self) -> str:
        """Which bands were taken, and which of their values are black and white."""
        colors = {1: " as grey", 3: " as red, green, blue"}.get(len(self.bands), "")
        taken = f"bands {','.join(map(str, self.bands))}{colors}"
        if self.limits is None:
            return taken
        ranges = ", ".join(f"{low:.6g} to {high:.6g}" for low, high in self.limits)
        return f"{taken}, stretched from {ranges}"

    def read(self, window: Window) -> np.ndarray:
        """A part, uint8 (height, width, 3) in blue, green, red, or with as many bands as named.

        Where it is not valid the values mean nothing. Raises OSError as the raster does.
        """
        values = self.raster.read(window, self._indexes)
        if self.limits is not None:
            low, high = self.limits.T.astype(np.result_type(values.dtype, np.float32))
            scaled = (values - low) * (255 / (high - low))
            values = np.nan_to_num(np.rint(np.clip(scaled, 0, 255))).astype(np.uint8)
        if len(self.bands) == 1:
            return values.repeat(3, axis=2)
        return np.ascontiguousarray(values[..., ::-1] if len(self.bands) == 3 else values)

    def valid(self, window: Window) -> np.ndarray | None:
        """Where a part has data: bool (height, width); None: everywhere. NaN and infinity are none.

        Raises OSError as the raster does.
        """
        return _valid(self.raster, window, self._indexes)


def parse_bands(text: str) -> tuple[int, ...]:
    """The bands of ``--bands 4,3,2``, counted from 1.

    Raises:
        UserError: it is something else.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise UserError(f"--bands {text}: has to be numbers, such as 4,3,2") from error


def _choose(raster: Raster, bands: Sequence[int] | None) -> tuple[int, ...]:
    """The bands to take, counted from 1."""
    if bands is None:
        if raster.count not in (1, 3):
            named = enumerate(raster.names, start=1)
            inside = ", ".join(f"{number} {name}" for number, name in named if name)
            raise UserError(
                f"{raster.path} has {raster.count} bands{inside and f' ({inside})'}: choose those "
                "for red, green, blue, counted from 1, such as --bands 3,2,1"
            )
        return (1,) if raster.count == 1 else (1, 2, 3)
    wrong = [band for band in bands if not 1 <= band <= raster.count]
    if wrong or not bands:
        raise UserError(
            f"--bands {','.join(map(str, bands))}: {raster.path} has the bands 1 to {raster.count}"
        )
    return tuple(bands)


def _limits(raster: Raster, bands: Sequence[int], stretch: str) -> np.ndarray | None:
    """The values that become 0 and 255, (bands, 2)."""
    if raster.dtype.kind not in "uif":
        raise UserError(f"{raster.path}: its values are {raster.dtype}, not real numbers")
    if stretch == "none":
        if raster.dtype == np.uint8:
            return None
        found = _thinned(raster, bands)
        low, high = min(each.min() for each in found), max(each.max() for each in found)
        raise UserError(
            f"{raster.path}: its values are {raster.dtype}, about {low:g} to {high:g}, and models "
            "take 8 bits: say which become black and white, as by --stretch 0,4095 or 2%,98%"
        )
    low, high = _parse(stretch)
    if "%" not in stretch:
        return np.tile([low, high], (len(bands), 1))
    limits = np.array([np.percentile(each, [low, high]) for each in _thinned(raster, bands)])
    for band, (dark, light) in zip(bands, limits, strict=True):
        if not dark < light:
            raise UserError(
                f"--stretch {stretch}: both are {dark:g} in band {band + 1} of {raster.path}; name "
                "values, such as --stretch 0,4095"
            )
    return limits


def _parse(stretch: str) -> tuple[float, float]:
    """Two rising numbers, both of them percentages or none."""
    parts = stretch.split(",")
    percentages = [part.endswith("%") for part in parts]
    try:
        low, high = (float(part.removesuffix("%")) for part in parts)
    except ValueError:
        low = high = 0.0
    is_within = not any(percentages) or (all(percentages) and low >= 0 and high <= 100)
    if not (low < high and is_within and np.isfinite([low, high]).all()):
        allowed = "none, two values such as 0,4095, or two percentiles such as 2%,98%"
        raise UserError(f"--stretch {stretch}: has to be {allowed}, the smaller one first")
    return low, high


def _thinned(raster: Raster, bands: Sequence[int]) -> list[np.ndarray]:
    """Valid values of each band from places all over the raster."""
    tops, lefts = (
        np.linspace(0, max(side - _SIDE, 0), min(_PLACES, -(-side // _SIDE))).astype(int)
        for side in (raster.height, raster.width)
    )
    size = min(_SIDE, raster.height), min(_SIDE, raster.width)
    found = []
    for window in (Window(int(top), int(left), *size) for top in tops for left in lefts):
        try:
            values, valid = raster.read(window, bands), _valid(raster, window, bands)
        except OSError:  # the prediction comes here too, and names it
            continue
        found.append(values.reshape(-1, len(bands)) if valid is None else values[valid])
    if not any(map(len, found)):
        raise UserError(f"{raster.path}: no data at {len(tops) * len(lefts)} places all over it")
    return list(np.concatenate(found).T)


def _valid(raster: Raster, window: Window, bands: Sequence[int]) -> np.ndarray | None:
    """Where all bands are numbers, and there is data."""
    valid = raster.valid(window, bands)
    if raster.dtype.kind == "f":
        finite = np.isfinite(raster.read(window, bands)).all(axis=2)
        return finite if valid is None else finite & valid
    return valid
