"""Drawing boxes, masks and segmentations into images.

One mask at a time is unpacked, so that memory does not grow with the number of instances.
"""

from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xcit_dense.predict.categories import Categories
from xcit_dense.predict.masks.run_lengths import RunLengths, decode_in_box
from xcit_dense.predict.results import Detections, Prediction, SegmentationMap

OPACITY = 0.45
PIXELS_IN_A_BAND = 2**18
# of the pixels; smaller classes do not stand in the legend
_SMALLEST_IN_LEGEND = 0.002
_COLOUR_OF_THE_REST = (128, 128, 128)


def draw_prediction(
    image: np.ndarray,
    prediction: Prediction,
    categories: Categories,
    longest_side: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draw a prediction, or ground truth, into a copy of its image.

    Args:
        image: uint8 (H, W, 3) in blue, green, red.
        prediction: boxes with or without masks, or the class of every pixel.
        categories: names and colours of the labels.
        longest_side: largest height or width of the picture; None keeps the image's.
        image_size: height and width that boxes and masks are measured in; None for the image's.

    Returns:
        uint8 (h, w, 3) in blue, green, red.
    """
    picture = shrunk(image, longest_side)
    if isinstance(prediction, SegmentationMap):
        return _draw_map(picture, prediction, categories)
    return _draw_detections(picture, image_size or image.shape[:2], prediction, categories)


def shrunk(image: np.ndarray, longest_side: int | None) -> np.ndarray:
    """A copy of an image with no side longer than ``longest_side``, if that is given."""
    height, width = image.shape[:2]
    if longest_side is None or max(height, width) <= longest_side:
        return image.copy()
    ratio = longest_side / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _draw_detections(
    picture: np.ndarray,
    image_size: tuple[int, int],
    detections: Detections,
    categories: Categories,
) -> np.ndarray:
    ratios = np.array(picture.shape[:2]) / image_size  # vertical, horizontal
    boxes = detections.boxes * np.tile(ratios[::-1], 2)
    largest_first = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    for index in largest_first:
        if detections.masks is not None:
            colour = categories.palette[detections.labels[index]]
            _draw_mask(picture, detections.masks[index], colour, ratios)
    canvas = Image.fromarray(picture[..., ::-1])
    pen = ImageDraw.Draw(canvas)
    unit = _unit(picture)
    for index in largest_first:
        label = detections.labels[index]
        colour = categories.palette[label]
        text = categories.names[label]
        if detections.scores is not None:
            text += f" {detections.scores[index]:.0%}"
        left, top, right, bottom = boxes[index]
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=unit)
        _write(pen, text, (left, top), colour, 7 * unit + 3, canvas.size)
    return np.asarray(canvas)[..., ::-1].copy()


def _draw_mask(
    picture: np.ndarray, mask: RunLengths, colour: tuple[int, int, int], ratios: np.ndarray
) -> None:
    """Tint the pixels of a mask and line its edge, in place."""
    part, top, left = decode_in_box(mask)
    if not part.size:
        return
    first = np.floor(np.array([top, left]) * ratios).astype(int)
    last = np.ceil((np.array([top, left]) + part.shape) * ratios).astype(int)
    last = np.minimum(np.maximum(last, first + 1), picture.shape[:2])
    size = last - first
    if not size.all():
        return
    part = cv2.resize(part.view(np.uint8), size[::-1].tolist(), interpolation=cv2.INTER_NEAREST)
    region = picture[first[0] : last[0], first[1] : last[1]]
    tints = _tints(np.array([colour[::-1]]))
    for channel in range(3):
        tinted = cv2.LUT(region[..., channel], tints[0, channel])
        np.copyto(region[..., channel], tinted, where=part.view(bool))
    outlines, _ = cv2.findContours(part, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        columns, rows = outline[:, 0].T
        region[rows, columns] = colour[::-1]


def _draw_map(
    picture: np.ndarray, segmentation: SegmentationMap, categories: Categories
) -> np.ndarray:
    height, width = picture.shape[:2]
    labels = cv2.resize(
        segmentation.labels.astype(np.uint16, copy=False),
        (width, height),
        interpolation=cv2.INTER_NEAREST,
    )
    colours = np.array(categories.palette[: len(categories.names)])[:, ::-1]
    counts = _tint_classes(picture, labels, colours)
    canvas = Image.fromarray(picture[..., ::-1])
    pen = ImageDraw.Draw(canvas)
    size = 7 * _unit(picture) + 3
    row_height = sum(_font(size).getmetrics()) + 4
    legend = _legend(counts, categories, rows=max(1, height // row_height))
    for row, (text, colour) in enumerate(legend, start=1):
        _write(pen, text, (0, row * row_height), colour, size, canvas.size)
    return np.asarray(canvas)[..., ::-1].copy()


def _legend(
    counts: np.ndarray, categories: Categories, rows: int
) -> list[tuple[str, tuple[int, int, int]]]:
    """Texts and colours of at most so many rows: the largest classes, in the order of labels."""
    shown = np.flatnonzero(counts >= max(1, _SMALLEST_IN_LEGEND * counts.sum()))
    if len(shown) <= rows:
        return [(categories.names[label], categories.palette[label]) for label in shown]
    largest = sorted(shown, key=lambda label: -counts[label])[: rows - 1]
    legend = [(categories.names[label], categories.palette[label]) for label in sorted(largest)]
    rest = f"and {len(shown) - len(largest)} more" if legend else f"{len(shown)} classes"
    return [*legend, (rest, _COLOUR_OF_THE_REST)]


def _tint_classes(picture: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Tint the pixels of each class, in place and in bands; labels without a colour stay.

    Returns:
        How many pixels there are of each class, (classes,).
    """
    untouched = np.broadcast_to(np.arange(256, dtype=np.uint8), (1, 3, 256))
    tints = np.concatenate([_tints(colours), untouched])
    counts = np.zeros(len(tints), np.int64)
    rows = max(1, PIXELS_IN_A_BAND // picture.shape[1])
    for first in range(0, len(picture), rows):
        band = picture[first : first + rows]
        classes = np.minimum(labels[first : first + rows], len(colours))
        counts += np.bincount(classes.ravel(), minlength=len(tints))
        for channel in range(3):
            band[..., channel] = tints[classes, channel, band[..., channel]]
    return counts[:-1]


def _tints(colours: np.ndarray) -> np.ndarray:
    """What every value of a channel becomes under each colour: (n, 3) -> uint8 (n, 3, 256)."""
    values = np.arange(256) * (1 - OPACITY)
    return (values + colours[..., None] * OPACITY).astype(np.uint8)


def _unit(picture: np.ndarray) -> int:
    """Width of a line that is well seen in a picture of this size."""
    return max(1, round(max(picture.shape[:2]) / 500))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own has no letters beyond ASCII."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    bottom_left: tuple[float, float],
    colour: tuple[int, int, int],
    size: int,
    limits: tuple[int, int],
) -> None:
    """Write on a ground of ``colour``, above and to the right of a point, within the picture."""
    font = _font(size)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left, bottom - top
    x = max(0, min(bottom_left[0], limits[0] - width - 4))
    y = max(0, min(bottom_left[1] - height - 4, limits[1] - height - 4))
    pen.rectangle((x, y, x + width + 3, y + height + 3), fill=colour)
    dark_ground = np.dot(colour, (0.299, 0.587, 0.114)) < 140
    pen.text((x + 2 - left, y + 2 - top), text, fill="white" if dark_ground else "black", font=font)
