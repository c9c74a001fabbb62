"""Pictures of large rasters: the whole at a smaller size, and the places where most was found."""

from collections import Counter

import cv2
import numpy as np

from xcit_dense.large.geojson import outline_of
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import mask_of
from xcit_dense.large.sources import Window
from xcit_dense.predict.drawing import OPACITY, below_caption, draw_prediction
from xcit_dense.predict.results import Categories, Detections, SegmentationMap, encode_mask

LONGEST_SIDE = 4000
_PIXELS_AT_ONCE = 2**24
_FRACTION = 4  # bits of coordinates below a pixel, for OpenCV


def thinned(pixels: Pixels, longest_side: int = LONGEST_SIDE) -> np.ndarray:
    """A picture of the whole, uint8 (h, w, 3) in blue, green, red, of means of squares of pixels.

    It is read in bands. Raises OSError as the pixels do.
    """
    step = -(-max(pixels.height, pixels.width) // longest_side)
    picture = np.empty((-(-pixels.height // step), -(-pixels.width // step), 3), np.uint8)
    rows = step * max(1, _PIXELS_AT_ONCE // (step * pixels.width))
    for top in range(0, pixels.height, rows):
        window = Window(top, 0, min(rows, pixels.height - top), pixels.width)
        part = picture[top // step : -(-(top + window.height) // step)]
        band = _viewable(pixels.read(window))
        part[:] = cv2.resize(band, part.shape[1::-1], interpolation=cv2.INTER_AREA)
    return picture


def draw_objects(
    picture: np.ndarray, found: Detections, categories: Categories, size: tuple[int, int]
) -> np.ndarray:
    """Draw what was found in a raster into a small picture of it, below how many there are.

    Args:
        picture: uint8 (h, w, 3) in blue, green, red.
        found: boxes in pixels of the raster, masks as runs.
        categories: names and colours of the labels.
        size: height and width of the raster.

    Returns:
        uint8 (h and a line of text, w, 3) in blue, green, red.
    """
    ratio = np.array(picture.shape[1::-1]) / size[::-1]
    filled = picture.copy()
    rings_of = []
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    for index in np.argsort(-sides.prod(axis=1), kind="stable"):  # the smallest on top
        colour = categories.palette[found.labels[index]][::-1]
        rings = [
            np.rint((ring * ratio - 0.5) * 2**_FRACTION).astype(np.int32)
            for polygon in outline_of(found, index)
            for ring in polygon
        ]
        cv2.fillPoly(filled, rings, colour, shift=_FRACTION)
        rings_of.append((rings, colour))
    drawn = cv2.addWeighted(picture, 1 - OPACITY, filled, OPACITY, 0)
    for rings, colour in rings_of:
        cv2.polylines(drawn, rings, True, colour, shift=_FRACTION)
    counts = Counter(categories.names[label] for label in found.labels)
    return below_caption(drawn, ", ".join(f"{n} {name}" for name, n in counts.most_common()))


def draw_labels(picture: np.ndarray, labels: np.ndarray, categories: Categories) -> np.ndarray:
    """Draw the labels of a raster, thinned to the size of a small picture of it, into that."""
    return draw_prediction(picture, SegmentationMap(labels), categories)


def places_with_most(
    found: Detections, size: tuple[int, int], side: int = 1024, count: int = 4
) -> list[Window]:
    """Squares of a raster with the most objects, by their centers; most first, none twice.

    Args:
        found: boxes in pixels of the raster.
        size: height and width of the raster.
        side: of the squares, no longer than those of the raster.
        count: how many, at most.
    """
    centers = ((found.boxes[:, 1::-1] + found.boxes[:, 3:1:-1]) / 2).astype(int)  # row, column
    centers = centers.clip(0, np.array(size) - 1)
    half = side // 2
    places: list[Window] = []
    while len(centers) and len(places) < count:
        cells = np.zeros([length // half + 2 for length in size], int)
        np.add.at(cells, tuple((centers // half).T), 1)
        squares = cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]
        corner = half * np.array(np.unravel_index(squares.argmax(), squares.shape))
        corner = np.minimum(corner, np.maximum(0, np.array(size) - side))
        height, width = np.minimum(side, size).tolist()
        places.append(Window(*corner.tolist(), height, width))
        is_there = ((centers >= corner) & (centers < corner + side)).all(axis=1)
        centers = centers[~is_there]
    return places


def draw_place(
    pixels: Pixels, found: Detections, categories: Categories, place: Window
) -> np.ndarray:
    """A place in full size with the objects there, named; uint8 (h, w, 3) in blue, green, red.

    Args:
        pixels: of the raster.
        found: boxes in pixels of the raster, masks as runs.
        categories: names and colours of the labels.
        place: a part of the raster.
    """
    corner = np.array([place.left, place.top] * 2)
    boxes = found.boxes - corner
    there = found.where(
        (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < (place.width, place.height)).all(axis=1)
    )
    masks = there.masks and [encode_mask(mask_of(mask, place)) for mask in there.masks]
    there = Detections(there.boxes - corner, there.labels, there.scores, masks)
    return draw_prediction(_viewable(pixels.read(place)), there, categories)


def _viewable(values: np.ndarray) -> np.ndarray:
    """Three bands of what a model is fed: the first three, or the first one three times."""
    return np.ascontiguousarray(values[..., [0, 1, 2] if values.shape[2] >= 3 else [0, 0, 0]])
