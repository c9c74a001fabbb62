"""Reading an image file as training does, or saying why that is not possible."""

import warnings
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from xcit_dense.errors import in_one_line
from xcit_dense.predict.reading.decoding import Decoding

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)


_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})


class UnreadableImageError(ValueError):
    """A file is no image that could be read; the message says why, without the file's name."""


def read_image(path: Path | str, decoding: Decoding | None = None) -> np.ndarray:
    """Read the first image of a file, into 8-bit blue, green, red if nothing else is said.

    It is decoded as mm's ``LoadImageFromFile`` does, so that a model sees what it would see in
    training: if nothing else is said, by OpenCV, which cuts 16 bits to the upper 8, repeats grey,
    converts CMYK, drops alpha and does the rotations that EXIF names. Pillow decodes too, to find
    damage, which OpenCV may fill with grey.

    Args:
        path: an image in any format that both OpenCV and Pillow know.
        decoding: other channels or another library, as a test pipeline may choose.

    Returns:
        uint8 (H, W, 3), or what ``decoding`` gives.

    Raises:
        UnreadableImageError: the file is missing, empty, damaged, or of an unknown format.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    if not content:
        raise UnreadableImageError("the file is empty")
    mode = _check_whole(_without_metadata(content))
    try:
        image = (decoding or Decoding()).decode(content)
    except cv2.error as error:
        raise UnreadableImageError(f"OpenCV cannot decode it ({error.err})") from error
    except Exception as error:  # Pillow's, as below
        raise UnreadableImageError(in_one_line(error)) from error
    if image is None:
        raise UnreadableImageError(f"OpenCV cannot decode it (pixels of Pillow's kind {mode})")
    return image


def _without_metadata(content: bytes) -> bytes:
    """A PNG without texts and profiles, for Pillow's check of its pixels: it refuses large ones."""
    if not content.startswith(_PNG):
        return content
    kept, position = [_PNG], len(_PNG)
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + length + 12  # with the length itself, the kind and a checksum
        if content[position + 4 : position + 8] not in _PNG_METADATA:
            kept.append(content[position:end])
        position = end
    return b"".join(kept)


def _check_whole(content: bytes) -> str:
    """See that an image is complete; return the name that Pillow has for its kind of pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is welcome
            with Image.open(BytesIO(content)) as image:
                image.load()
                return image.mode
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError("no image, or of an unknown format or kind of pixel") from error
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        raise UnreadableImageError(in_one_line(error)) from error
