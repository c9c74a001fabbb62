"""Drawing boxes, masks and segmentations into images.

One mask at a time is unpacked, so that memory does not grow with the number of instances.
"""

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xcit_dense.predict.masks import RunLengths, coco_masks
from xcit_dense.predict.results import (
    Categories,
    Detections,
    Prediction,
    SegmentationMap,
    ground_truth_of,
)

OPACITY = 0.45
NO_CLASS = 255  # pixels that ground truth leaves out
_GREY = (128, 128, 128)
# of the pixels; smaller classes do not stand in the legend
_SMALLEST_IN_LEGEND = 0.002

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]


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
        categories: names and colours of the labels. Others are written as their numbers.
        longest_side: largest height or width of the picture; None keeps the image's.
        image_size: height and width that boxes and masks are measured in; None for the image's.

    Returns:
        uint8 (h, w, 3) in blue, green, red.
    """
    picture = shrunk(image, longest_side)
    if isinstance(prediction, SegmentationMap):
        return _draw_map(picture, prediction.labels, categories)
    return _draw_detections(picture, image_size or image.shape[:2], prediction, categories)


def draw_ground_truth(
    pixels: np.ndarray, sample: Any, categories: Categories, annotated_as_read: bool = False
) -> np.ndarray:
    """Draw the boxes, masks and labels of a data sample into a copy of its image.

    Args:
        pixels: uint8 (H, W, 3) in blue, green, red, with padding at the right and below.
        sample: of mmdet or mmseg.
        categories: names and colours of the labels.
        annotated_as_read: the ground truth is that of the image in its file, which was resized
            since; else of the pixels.

    Returns:
        uint8 (H, W, 3) in blue, green, red.

    Raises:
        UserError: the label map has several channels.
    """
    picture = pixels.copy()
    described = sample.metainfo
    annotated_size = described.get("ori_shape") if annotated_as_read else None
    for truth in ground_truth_of(sample):
        size = described.get("img_shape", picture.shape)[:2]
        if annotated_as_read and "scale_factor" in described:
            # the factor tells the size before padding
            size = np.rint(np.array(annotated_size[:2]) * described["scale_factor"][::-1])
        elif isinstance(truth, SegmentationMap):
            # padding may be labelled too; some label maps are coarser than the image
            size = np.maximum(truth.labels.shape, size)
        height, width = np.clip(size, 1, picture.shape[:2]).astype(int)
        part = picture[:height, :width]
        part[:] = draw_prediction(part, truth, categories, image_size=annotated_size)
    return picture


def side_by_side(pictures: list[np.ndarray], captions: list[str]) -> np.ndarray:
    """Pictures of one height in a row, each below its caption; all uint8 in blue, green, red."""
    columns = []
    for picture, caption in zip(pictures, captions, strict=True):
        font = _pen(Image.fromarray(picture)).font
        head = Image.new("RGB", (picture.shape[1], sum(font.getmetrics()) + 8), "white")
        ImageDraw.Draw(head).text((4, 4), caption, fill="black", font=font)
        columns.append(np.concatenate([np.asarray(head), picture]))
    return np.concatenate(columns, axis=1)


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
            _, colour = _name_and_colour(detections.labels[index], categories)
            _draw_mask(picture, detections.masks[index], colour)
    canvas = Image.fromarray(picture[..., ::-1])
    pen = _pen(canvas)
    width = max(1, pen.font.size // 8)
    for index in largest_first:
        left, top, right, bottom = boxes[index]
        _, colour = _name_and_colour(detections.labels[index], categories)
        corners = (left, top, max(left, right), max(top, bottom))
        pen.rectangle(corners, outline=colour, width=width)
    taken: list[Rectangle] = []
    for index in largest_first[::-1]:  # the smallest have least room
        text, colour = _name_and_colour(detections.labels[index], categories)
        if detections.scores is not None:
            text += f" {detections.scores[index]:.0%}"
        place = _free_place(_extent(pen, text), boxes[index], canvas.size, taken)
        if place:
            taken.append(place)
            _write(pen, text, place, colour)
    return np.asarray(canvas)[..., ::-1].copy()


def _draw_mask(picture: np.ndarray, mask: RunLengths, colour: Colour) -> None:
    """Tint the pixels of a mask and line its edge, in place."""
    size = picture.shape[1::-1]
    part = cv2.resize(coco_masks().decode(mask), size, interpolation=cv2.INTER_NEAREST)
    inside = part.astype(bool)
    tinted = picture[inside] * (1 - OPACITY) + np.array(colour[::-1]) * OPACITY
    picture[inside] = tinted.astype(np.uint8)
    outlines, _ = cv2.findContours(part, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour[::-1])


def _draw_map(picture: np.ndarray, labels: np.ndarray, categories: Categories) -> np.ndarray:
    height, width = picture.shape[:2]
    labels = cv2.resize(labels.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST)
    count = len(categories.names)
    colours = np.array([*categories.palette[:count], _GREY], np.uint8)[:, ::-1]
    tinted = cv2.addWeighted(picture, 1 - OPACITY, colours[np.minimum(labels, count)], OPACITY, 0)
    picture[labels < count] = tinted[labels < count]
    canvas = Image.fromarray(picture[..., ::-1])
    pen = _pen(canvas)
    row_height = sum(pen.font.getmetrics()) + 2
    legend = _legend(labels, categories, rows=max(1, height // row_height))
    for row, label in enumerate(legend):
        text, colour = _name_and_colour(label, categories)
        columns, rows = _extent(pen, text)
        top = row * row_height
        _write(pen, text, (0, top, columns, top + rows), colour)
    return np.asarray(canvas)[..., ::-1].copy()


def _legend(labels: np.ndarray, categories: Categories, rows: int) -> list[int]:
    """At most so many labels in their order: those that are no class, and the largest classes."""
    found, counts = np.unique(labels, return_counts=True)
    sizes = dict(zip(found.tolist(), counts.tolist(), strict=True))
    sizes.pop(NO_CLASS, None)
    sizes.update((label, labels.size) for label in sizes if label >= len(categories.names))
    shown = [label for label in sizes if sizes[label] >= _SMALLEST_IN_LEGEND * labels.size]
    return sorted(sorted(shown, key=sizes.get)[-rows:])


def _name_and_colour(label: int, categories: Categories) -> tuple[str, Colour]:
    if label < len(categories.names):
        return categories.names[label], categories.palette[label]
    return f"no class: {label}", _GREY


def _pen(canvas: Image.Image) -> ImageDraw.ImageDraw:
    """A pen whose letters are well read in a picture of this size."""
    pen = ImageDraw.Draw(canvas)
    pen.font = _font(3 + 7 * max(1, round(max(canvas.size) / 500)))
    return pen


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own has no letters beyond ASCII."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _free_place(
    extent: tuple[float, float],
    box: np.ndarray,
    limits: tuple[int, int],
    taken: list[Rectangle],
) -> Rectangle | None:
    """Where a text of that width and height stands at a box and on no other text, if anywhere."""
    width, height = extent
    left, top, right, bottom = box
    for x, y in (
        (left, top - height),
        (left, top),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
    ):
        x = max(0, min(x, limits[0] - width))
        y = max(0, min(y, limits[1] - height))
        place = (x, y, x + width, y + height)
        if not any(_overlap(place, other) for other in taken):
            return place
    return None


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _extent(pen: ImageDraw.ImageDraw, text: str) -> tuple[float, float]:
    """Width and height of a text with its ground."""
    return pen.textlength(text) + 4, sum(pen.font.getmetrics())


def _write(pen: ImageDraw.ImageDraw, text: str, place: Rectangle, colour: Colour) -> None:
    """Write on a ground of ``colour``."""
    left, top, right, bottom = place
    pen.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    dark_ground = np.dot(colour, (0.299, 0.587, 0.114)) < 140
    pen.text((left + 2, top), text, fill="white" if dark_ground else "black")
