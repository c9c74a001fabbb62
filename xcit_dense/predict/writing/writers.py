"""Pictures and label maps as files, each whole or not there."""

import os
import secrets
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from xcit_dense.predict.categories import Categories
from xcit_dense.predict.drawing import shrunk
from xcit_dense.predict.results import SegmentationMap

LARGEST_SIDE_OF_JPEG = 65500
_LARGEST_PALETTE = 256


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) in blue, green, red as a JPEG, shrunk if JPEG has no such sizes.

    Raises:
        OSError: the file cannot be written.
    """
    _, content = cv2.imencode(".jpg", shrunk(picture, LARGEST_SIDE_OF_JPEG))
    _write(path, content.tobytes())


def write_label_map(path: Path, segmentation: SegmentationMap, categories: Categories) -> None:
    """Write the labels of all pixels as a PNG: the values are the labels.

    It has a palette with the colours of the classes; of more than 256 classes, for which there is
    none, it has 16 bits of grey.

    Raises:
        OSError: the file cannot be written.
    """
    if len(categories.names) > _LARGEST_PALETTE:
        picture = Image.fromarray(segmentation.labels.astype(np.uint16))
    else:
        picture = Image.fromarray(segmentation.labels.astype(np.uint8), mode="P")
        picture.putpalette(np.array(categories.palette, dtype=np.uint8).tobytes())
    content = BytesIO()
    picture.save(content, "PNG")
    _write(path, content.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Write a file, or leave what was there.

    Not by OpenCV, which ends the process at names that are not UTF-8; and not by
    :func:`write_atomically`, which for each picture would look through a folder of thousands and
    wait for the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(4)}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:  # a full disk, or the end of the run
        partial.unlink(missing_ok=True)
        raise
