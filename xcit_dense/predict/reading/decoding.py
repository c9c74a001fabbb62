"""How the bytes of an image file become pixels, which a test pipeline may choose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import mmcv
import numpy as np

_BACKENDS = ("cv2", "pillow")
_COLOR_TYPES = (
    "color",
    "color_ignore_orientation",
    "grayscale",
    "grayscale_ignore_orientation",
    "unchanged",
)


@dataclass(frozen=True)
class Decoding:
    """What mm's ``LoadImageFromFile`` is told about pixels.

    Attributes:
        color_type: which channels there are, and whether EXIF turns the image.
        backend: the library that decodes.

    Raises:
        ValueError: there is no such way, or its library does not come with mm.
    """

    color_type: str = "color"
    backend: str = "cv2"

    def __post_init__(self) -> None:
        if self.color_type not in _COLOR_TYPES:
            raise ValueError(f"color_type={self.color_type!r}: allowed are {_listed(_COLOR_TYPES)}")
        if self.backend not in _BACKENDS:
            raise ValueError(
                f"imdecode_backend={self.backend!r}: images to predict on are decoded by "
                f"{_listed(_BACKENDS)} only"
            )

    @classmethod
    def of_loader(cls, loader: Mapping[str, Any]) -> "Decoding":
        """What the first step of a pipeline, a ``LoadImageFromFile``, is told."""
        return cls(loader.get("color_type", "color"), loader.get("imdecode_backend") or "cv2")

    @property
    def is_grey(self) -> bool:
        """Whether there is one channel."""
        return self.color_type.startswith("grayscale")

    def decode(self, content: bytes) -> np.ndarray | None:
        """Decode as ``LoadImageFromFile`` does; None where OpenCV cannot."""
        return mmcv.imfrombytes(content, flag=self.color_type, backend=self.backend)

    def convert(self, pixels: np.ndarray) -> np.ndarray:
        """Bring pixels in blue, green, red, such as a frame's, to the channels of this way."""
        if self.is_grey and pixels.ndim == 3:
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        return pixels

    def check(self, pixels: np.ndarray) -> None:
        """See that pixels are uint8 in blue, green, red, or what :meth:`decode` can give.

        Raises:
            ValueError: they are something else.
        """
        channels = pixels.shape[2:]
        fits = pixels.dtype == np.uint8 and channels == (3,)
        if self.is_grey:
            fits = fits or (pixels.dtype == np.uint8 and not channels)
        elif self.color_type == "unchanged":
            fits = channels in {(), (1,), (2,), (3,), (4,)}
        if not (fits and pixels.ndim >= 2 and pixels.size):
            raise ValueError(
                f"pixels of shape {pixels.shape} and type {pixels.dtype}: expected uint8 (H, W, 3) "
                "in blue, green, red, as xcit_dense.predict.read_image gives"
            )


def viewable(pixels: np.ndarray) -> np.ndarray:
    """Decoded pixels of any kind as uint8 (H, W, 3) in blue, green, red, to draw on.

    Grey is repeated, alpha is dropped, other depths are stretched to 8 bits.
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        pixels = cv2.normalize(pixels.astype(np.float32), None, 0, 255, cv2.NORM_MINMAX)
        pixels = pixels.astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    colours = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(colours)


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values)
