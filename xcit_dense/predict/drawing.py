"""Drawing boxes, masks and segmentations into images.

One mask at a time is unpacked, so that memory does not grow with the number of instances.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xcit_dense.predict.results import (
    Categories,
    Detections,
    Prediction,
    RunLengths,
    SegmentationMap,
    coco_masks,
    ground_truth_of,
)

OPACITY = 0.45
NO_CLASS = 255  # pixels that ground truth leaves out
_GREY = (128, 128, 128)
_SMALLEST_IN_LEGEND = 0.002  # of the pixels

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont


class Text(NamedTuple):
    """A line on a ground of ``colour``, to be written at the first of ``tops`` that is free."""

    line: str
    colour: Colour
    left: float
    tops: Sequence[float]


def draw_prediction(
    image: np.ndarray,
    prediction: Prediction,
    categories: Categories,
    image_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draw a prediction, or ground truth, into a copy of its image.

    Args:
        image: uint8 (H, W, 3) in blue, green, red.
        prediction: boxes with or without masks, or the class of every pixel.
        categories: names and colours of the labels. Others are written as their numbers.
        image_size: height and width that boxes and masks are measured in; None for the image's.

    Returns:
        uint8 (H, W, 3) in blue, green, red.
    """
    picture = image.copy()
    font = _font(picture)
    if isinstance(prediction, SegmentationMap):
        texts = _draw_map(picture, prediction.labels, categories, font)
    else:
        size = image_size or image.shape[:2]
        texts = _draw_detections(picture, size, prediction, categories, font)
    return _written(picture, texts, font)


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

    Raises:
        UserError: the label map has several channels.
    """
    picture = pixels.copy()
    described = sample.metainfo
    annotated_size = described["ori_shape"][:2] if annotated_as_read else None
    for truth in ground_truth_of(sample):
        if annotated_as_read:  # img_shape may have padding
            size = np.rint(annotated_size * np.flip(described.get("scale_factor", (1, 1))))
        else:  # padding may be annotated too; some label maps are coarser than the image
            is_map = isinstance(truth, SegmentationMap)
            sizes = [truth.labels.shape] if is_map else [mask["size"] for mask in truth.masks or ()]
            size = np.max([described["img_shape"][:2], *sizes], axis=0)
        height, width = np.clip(size, 1, picture.shape[:2]).astype(int)
        part = picture[:height, :width]
        part[:] = draw_prediction(part, truth, categories, annotated_size)
    return picture


def shrunk(image: np.ndarray, longest_side: int | None) -> np.ndarray:
    """A copy of an image with no side longer than ``longest_side``, if that is given."""
    picture = Image.fromarray(image)
    if longest_side:
        picture.thumbnail((longest_side, longest_side))
    return np.array(picture)


def below_caption(picture: np.ndarray, caption: str) -> np.ndarray:
    """A picture with a line of text above it; uint8 in blue, green, red."""
    font = _font(picture)
    head = Image.new("RGB", (picture.shape[1], _height(font) + 8), "white")
    ImageDraw.Draw(head).text((4, 4), caption, fill="black", font=font)
    return np.concatenate([np.asarray(head), picture])


def _draw_detections(
    picture: np.ndarray,
    image_size: tuple[int, int],
    detections: Detections,
    categories: Categories,
    font: Font,
) -> list[Text]:
    """Draw masks and boxes, in place; returns names and scores."""
    ratios = np.array(picture.shape[:2]) / image_size  # vertical, horizontal
    boxes = detections.boxes * np.tile(ratios[::-1], 2)
    largest_first = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    described = [_name_and_colour(label, categories) for label in detections.labels]
    if detections.masks is not None:
        for index in largest_first:
            _draw_mask(picture, detections.masks[index], described[index][1])
    texts = []
    for index in largest_first:
        name, colour = described[index]
        left, top, right, bottom = boxes[index].round().astype(int).tolist()
        cv2.rectangle(picture, (left, top), (right, bottom), colour[::-1], max(1, font.size // 8))
        score = "" if detections.scores is None else f" {detections.scores[index]:.0%}"
        texts.append(Text(name + score, colour, left, (top - _height(font), top, bottom)))
    return texts[::-1]  # the smallest have least room


def _draw_mask(picture: np.ndarray, mask: RunLengths, colour: Colour) -> None:
    """Tint the pixels of a mask and line its edge, in place."""
    size = picture.shape[1::-1]
    part = cv2.resize(coco_masks().decode(mask), size, interpolation=cv2.INTER_NEAREST)
    inside = part.astype(bool)
    tinted = picture[inside] * (1 - OPACITY) + np.array(colour[::-1]) * OPACITY
    picture[inside] = tinted.astype(np.uint8)
    outlines, _ = cv2.findContours(part, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour[::-1])


def _draw_map(
    picture: np.ndarray, labels: np.ndarray, categories: Categories, font: Font
) -> list[Text]:
    """Tint the classes, in place; returns a legend, the largest first."""
    height, width = picture.shape[:2]
    labels = cv2.resize(labels.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST)
    count = len(categories.names)
    colours = np.array([*categories.palette[:count], _GREY], np.uint8)[:, ::-1]
    tinted = cv2.addWeighted(picture, 1 - OPACITY, colours[np.minimum(labels, count)], OPACITY, 0)
    picture[labels < count] = tinted[labels < count]
    found, areas = np.unique(labels, return_counts=True)
    areas[found >= count] = labels.size  # what is no class is said, however small
    rows = range(0, max(1, height - _height(font)), _height(font))
    return [
        Text(*_name_and_colour(found[index], categories), 0, rows)
        for index in np.argsort(-areas, kind="stable")
        if areas[index] >= _SMALLEST_IN_LEGEND * labels.size and found[index] != NO_CLASS
    ]


def _name_and_colour(label: int, categories: Categories) -> tuple[str, Colour]:
    if label < len(categories.names):
        return categories.names[label], categories.palette[label]
    return f"no class: {label}", _GREY


def _font(picture: np.ndarray) -> Font:
    """Letters that are well read in a picture of this size.

    DejaVu Sans comes with matplotlib; Pillow's own font has no letters beyond ASCII.
    """
    path = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(path, 3 + 7 * max(1, round(max(picture.shape) / 500)))


def _height(font: Font) -> int:
    return sum(font.getmetrics())


def _written(picture: np.ndarray, texts: Sequence[Text], font: Font) -> np.ndarray:
    """A copy of a picture with texts, but for those that would stand on others."""
    canvas = Image.fromarray(picture[..., ::-1])
    pen = ImageDraw.Draw(canvas)
    is_taken = np.zeros(picture.shape[:2], bool)
    for text in texts:
        width, height = int(pen.textlength(text.line, font)) + 4, _height(font)
        left = max(0, min(text.left, canvas.width - width))
        for wanted in text.tops:
            top = max(0, min(wanted, canvas.height - height))
            place = is_taken[top : top + height, left : left + width]
            if not place.any():
                place[:] = True
                pen.rectangle((left, top, left + width - 1, top + height - 1), fill=text.colour)
                is_dark = np.dot(text.colour, (0.299, 0.587, 0.114)) < 140
                pen.text((left + 2, top), text.line, "white" if is_dark else "black", font)
                break
    return np.array(canvas)[..., ::-1].copy()
