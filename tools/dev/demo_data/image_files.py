"""Encoding of images and label maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

_JPEG_QUALITY = 92


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes an image, uint8 RGB (H, W, 3), as JPEG.

    Raises:
        OSError: if the file cannot be written.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _write(path, ".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def write_label_png(path: Path, labels: np.ndarray) -> None:
    """Writes labels, uint8 (H, W), as a one-channel PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    _write(path, ".png", labels, [])


def _write(path: Path, extension: str, pixels: np.ndarray, options: list[int]) -> None:
    # cv2.imwrite reports a full disk or a missing folder only by its return value.
    encoded, content = cv2.imencode(extension, pixels, options)
    if not encoded:
        raise OSError(f"{path} could not be encoded")
    path.write_bytes(content.tobytes())
