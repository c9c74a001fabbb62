"""Reading an image file as training does, or saying why that is not possible."""

import struct
import warnings
from io import BytesIO
from pathlib import Path

import cv2
import mmcv
import numpy as np
from PIL import Image

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)

# What Pillow raises for damaged files, besides OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class UnreadableImageError(ValueError):
    """A file is no image that could be read; the message says why, without the file's name."""


def read_image(path: Path | str) -> np.ndarray:
    """Read the first image of a file into 8-bit blue, green, red.

    OpenCV decodes, as it does in mm's ``LoadImageFromFile``, so that a model sees what it would
    see in training: 16 bits are cut to the upper 8, grey is repeated, CMYK is converted, alpha is
    dropped, and rotations that EXIF names are done. Pillow decodes too, only to find damage, which
    OpenCV may fill with grey.

    Args:
        path: an image in any format that both OpenCV and Pillow know.

    Returns:
        uint8 (H, W, 3).

    Raises:
        UnreadableImageError: the file is missing, empty, damaged, or of an unknown format.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    if not content:
        raise UnreadableImageError("the file is empty")
    mode = _check_whole(content)
    try:
        image = mmcv.imfrombytes(content, flag="color", backend="cv2")
    except cv2.error as error:
        raise UnreadableImageError(f"OpenCV cannot decode it ({error.err})") from error
    if image is None:
        raise UnreadableImageError(f"OpenCV cannot decode it (pixels of Pillow's kind {mode})")
    return image


def _check_whole(content: bytes) -> str:
    """See that an image is complete; return the name that Pillow has for its kind of pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is welcome
            with Image.open(BytesIO(content)) as image:
                image.load()
                return image.mode
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError("no image, or of an unknown format") from error
    except _DAMAGE as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error
