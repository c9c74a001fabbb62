"""A contact sheet: some images of a data set, with their annotations, in rows of equal width."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from mmcv.transforms import LoadImageFromFile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.predict.drawing import draw_prediction, shrunk
from xcit_dense.predict.inputs import InputImage, known_formats, read_image
from xcit_dense.predict.results import (
    Categories,
    Detections,
    Prediction,
    RunLengths,
    SegmentationMap,
    coco_masks,
    encode_mask,
)

_LONGEST_SIDE = 1000  # of what is kept of an image and its masks
_ROW_HEIGHT = 330
_THINNEST = 3  # of the place of an image, height to width or width to height
_GAP = 12
_LETTERS = 12


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its ground truth, which is read when it is drawn.

    Attributes:
        file: where it is.
        truth: gives the objects or the label map, and the height and width of their own.
    """

    file: Path
    truth: Callable[[], tuple[Prediction, tuple[int, int]]]


def choose_images(
    image: NDArray[np.int_], label: NDArray[np.int_], image_count: int, number: int = 12
) -> list[int]:
    """Choose images by chance so that all classes are seen, or as many as there is room for.

    The same data give the same choice. Images without a class are taken if others do not suffice.

    Args:
        image: of every object, or of every class that an image has, (N,).
        label: of the same; below 0 for what is no class, (N,).
        image_count: how many images there are.
        number: how many are wanted.
    """
    chance = np.random.default_rng(0)
    classes = chance.permutation(np.unique(label[label >= 0]))[:number]
    queues = [
        iter(chance.permutation(np.unique(image[label == each])).tolist()) for each in classes
    ]
    chosen: dict[int, None] = {}
    while queues and len(chosen) < number:
        queue = queues.pop(0)
        one = next((one for one in queue if one not in chosen), None)
        if one is not None:
            chosen[one] = None
            queues.append(queue)
    rest = np.setdiff1d(np.arange(image_count), list(chosen))
    return [*chosen, *chance.permutation(rest)[: number - len(chosen)].tolist()]


def annotated_objects(
    file: Path,
    size: tuple[int, int],
    records: Sequence[Mapping[str, Any]],
    label_of: Mapping[int, int],
) -> AnnotatedImage:
    """An image whose objects are in a file of COCO's format, which ``check_coco`` finds sound.

    Args:
        file: the image.
        size: its annotated height and width.
        records: its annotations; crowds are left out.
        label_of: the label of each category id; objects of others are left out.
    """
    used = [one for one in records if one["category_id"] in label_of and not one.get("iscrowd")]
    labels = np.array([label_of[record["category_id"]] for record in used], int)
    return AnnotatedImage(file, partial(_objects, size, used, labels))


def annotated_map(file: Path, label_map: Path, reduce_zero_label: bool) -> AnnotatedImage:
    """An image with its label map, in which mmseg ignores 0 if ``reduce_zero_label``."""
    return AnnotatedImage(file, partial(_labels, label_map, reduce_zero_label))


def draw_sheet(
    images: Sequence[AnnotatedImage],
    categories: Categories,
    width: int,
    loader: LoadImageFromFile | None = None,
) -> np.ndarray:
    """Draw images with their annotations in rows, each image as high as its row, with its name.

    An image that cannot be read is a grey place that says so.

    Args:
        images: one or more; all of them are read.
        categories: names and colours of the labels.
        width: of the sheet, in pixels.
        loader: of the images; None for mm's default, OpenCV in colour.

    Returns:
        uint8 (H, ``width``, 3) in blue, green, red, on white.
    """
    found = [_read(image, loader) for image in images]
    shapes = np.array([pixels.shape[:2] for pixels, _ in found])
    aspects = np.clip(shapes[:, 1] / shapes[:, 0], 1 / _THINNEST, _THINNEST)
    count = max(1, round(aspects.sum() * _ROW_HEIGHT / width))
    middles = aspects.cumsum() - aspects / 2
    row_of = (middles / aspects.sum() * count).astype(int)
    rows = []
    for row in np.unique(row_of):
        places = np.flatnonzero(row_of == row)
        room = width - _GAP * (len(places) - 1)
        height = min(2 * _ROW_HEIGHT, int(room / aspects[places].sum()))
        page, left = Image.new("RGB", (width, height + 2 * _LETTERS + _GAP), "white"), 0
        for place in places:
            pixels, truth = found[place]
            cell = int(aspects[place] * height), height
            picture = _fitted(pixels, cell)
            if truth:
                picture = draw_prediction(picture, truth[0], categories, truth[1])
            corner = left + (cell[0] - picture.shape[1]) // 2, (height - picture.shape[0]) // 2
            page.paste(Image.fromarray(picture[..., ::-1]), corner)
            _write(page, images[place].file.name, (left, height + 2), cell[0])
            left += cell[0] + _GAP
        rows.append(np.asarray(page)[..., ::-1])
    return np.concatenate(rows)


def _read(
    image: AnnotatedImage, loader: LoadImageFromFile | None
) -> tuple[np.ndarray, tuple[Prediction, tuple[int, int]] | None]:
    """No more pixels than are shown, and the truth, or a page that says why there are none."""
    try:
        pixels = InputImage(image.file, "", "", read_image(image.file, loader)).background
        return shrunk(pixels, _LONGEST_SIDE), image.truth()
    except UserError as error:
        page = Image.new("RGB", (400, 300), "gainsboro")
        for line, words in enumerate(textwrap.wrap(str(error).removeprefix(f"{image.file}: "), 50)):
            _write(page, words, (20, 20 + 2 * _LETTERS * line), 360)
        return np.asarray(page), None


def _objects(
    size: tuple[int, int], records: Sequence[Mapping[str, Any]], labels: NDArray[np.int_]
) -> tuple[Detections, tuple[int, int]]:
    scale = min(1.0, _LONGEST_SIDE / max(size))  # masks of large images are large too
    size = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    boxes = np.array([record["bbox"] for record in records], float).reshape(-1, 4) * scale
    boxes[:, 2:] += boxes[:, :2]
    outlines = [record.get("segmentation") for record in records]
    masks = [_mask(outline, size, scale) for outline in outlines] if any(outlines) else None
    return Detections(boxes, labels, masks=masks), size


def _mask(outline: list | Mapping | None, size: tuple[int, int], scale: float) -> RunLengths:
    """Polygons, run lengths or nothing at another size."""
    if isinstance(outline, list) and outline:
        polygons = [(np.array(polygon, float) * scale).tolist() for polygon in outline]
        return coco_masks().merge(coco_masks().frPyObjects(polygons, *size))
    if not outline:
        return encode_mask(np.zeros(size, bool))
    if isinstance(outline["counts"], list):
        outline = coco_masks().frPyObjects(dict(outline), *outline["size"])
    whole = coco_masks().decode(dict(outline))
    return encode_mask(cv2.resize(whole, size[::-1], interpolation=cv2.INTER_NEAREST))


def _labels(label_map: Path, reduce_zero_label: bool) -> tuple[SegmentationMap, tuple[int, int]]:
    try:
        with Image.open(label_map, formats=known_formats()) as opened:
            labels = np.array(opened).astype(np.uint8)
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        raise UserError(f"{label_map.name}: cannot be read ({in_one_line(error)})") from error
    if labels.ndim != 2:
        raise UserError(f"{label_map.name} has {labels.shape[2]} channels")
    if reduce_zero_label:
        labels = np.where(np.isin(labels, (0, 255)), 255, labels - 1)
    return SegmentationMap(labels), labels.shape


def _fitted(pixels: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Pixels in a size that fits into a width and height."""
    height, width = pixels.shape[:2]
    scale = min(cell[0] / width, cell[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, size, interpolation=how)


def _write(page: Image.Image, text: str, corner: tuple[int, int], room: int) -> None:
    """Write a line, of a long one its end."""
    path = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    font, pen = ImageFont.truetype(path, _LETTERS), ImageDraw.Draw(page)
    while pen.textlength(text, font) > room and len(text) > 4:
        text = f"...{text[4:]}"
    pen.text(corner, text, "dimgrey", font)
