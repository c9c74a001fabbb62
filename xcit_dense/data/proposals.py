"""What suits the objects of a data set: the size of images, and anchors."""

import math
from itertools import product

import numpy as np

_SHORT_SIDES = (480, 800)
_LARGEST_SHORT_SIDE = 1200  # of the recipes in configs/resolution/

SMALL = 8
"""Pixels, after scaling: two places of the finest map, less than what a detector can tell apart."""
_MANY = 0.05  # as a share of the objects
_EASY = 24

STRIDES = {"rpn_head": (4, 8, 16, 32, 64), "bbox_head": (8, 16, 32, 64, 128)}
"""Of the maps that anchors are on, in heads of two stages and of one."""
_RATIOS = ((0.5, 1.0, 2.0), (0.25, 0.5, 1.0, 2.0, 4.0))
_ANCHOR_SCALES = {
    "rpn_head": ((8,), (4,), (2,), (4, 8), (2, 4, 8)),
    "bbox_head": ((4,), (3,), (2,), (1,)),  # each with two more within its octave
}
_LEAST_OVERLAP = 0.3  # of an anchor with an object that it may learn: min_pos_iou of the RPN


Anchors = tuple[tuple[int, ...], tuple[float, ...]]
"""Scales, in the strides of a map (RetinaNet: octave_base_scale), and ratios of height to width."""


def propose_scale(image_sizes: np.ndarray, boxes: np.ndarray) -> tuple[int, int]:
    """Long and short side that images are made to fit in.

    As large as makes one object in ten smaller than 24 pixels, but between the recipe's short sides
    for COCO, 480 and 800 pixels; images that are larger than that, and lose more than one
    object in twenty by it, keep up to about 1200. Sides are multiples of 32.

    Args:
        image_sizes: (N, 2), width and height of the image of each of N objects, in pixels.
        boxes: (N, 2), width and height of the objects.
    """
    short = float(np.median(image_sizes.min(axis=1)))
    aspect = min(float(np.percentile(image_sizes.max(axis=1) / image_sizes.min(axis=1), 90)), 2.5)

    def scale_of(side: float) -> tuple[int, int]:
        side = max(32 * round(side / 32), 32)
        return max(32 * round(side * aspect / 32), side), side

    wanted = short * _EASY / max(np.percentile(sizes_of(boxes), 10), 1)
    least, most = min(_SHORT_SIDES[0], short), _SHORT_SIDES[1]
    scale = scale_of(min(max(wanted, least), most))
    if short > most and np.mean(sizes_of(scaled(image_sizes, boxes, scale)) < SMALL) > _MANY:
        scale = scale_of(min(wanted, short, _LARGEST_SHORT_SIDE))
    return scale


def sizes_of(boxes: np.ndarray) -> np.ndarray:
    """Square roots of areas (N,) of N boxes given by width and height (N, 2)."""
    return np.sqrt(boxes.prod(axis=1))


def scaled(image_sizes: np.ndarray, boxes: np.ndarray, scale: tuple[int, int]) -> np.ndarray:
    """Width and height (N, 2) of objects in images that are made to fit ``scale``.

    ``image_sizes`` and ``boxes`` are as for :func:`propose_scale`; mm's ``Resize`` keeps ratios.
    """
    long, short = max(scale), min(scale)
    factors = np.minimum(long / image_sizes.max(axis=1), short / image_sizes.min(axis=1))
    return boxes * factors[:, None]


def notes_of_scale(boxes: np.ndarray, scale: tuple[int, int]) -> list[str]:
    """How small N objects are that have these widths and heights (N, 2) after scaling, in words."""
    sizes = sizes_of(boxes)
    small = float(np.mean(sizes < SMALL))
    low, middle, high = np.percentile(sizes, (10, 50, 90))
    lines = [
        f"scale: images fit into {scale[0]}x{scale[1]}; a tenth of the objects are then smaller "
        f"than {low:.0f} pixels, half than {middle:.0f}, nine tenths than {high:.0f}, and "
        f"{small:.1%} than {SMALL}"
    ]
    if small > _MANY:
        lines.append(
            "mind: such objects are hardly found: a larger --scale, or tiles of the images"
        )
    return lines


def propose_anchors(boxes: np.ndarray, part: str, notes: list[str]) -> Anchors:
    """The fewest anchors that leave at most 5% more of the objects unmatched than the most do.

    The recipe's leave about as many of COCO's. An object matches if its IoU is 0.3 or more, at the
    best place.

    Args:
        boxes: (N, 2), width and height of the objects after scaling.
        part: the head that has the anchors, one of ``STRIDES``.
        notes: gets the anchors, and how they suit.
    """
    candidates = sorted(
        product(_ANCHOR_SCALES[part], _RATIOS), key=lambda shapes: len(shapes[0]) * len(shapes[1])
    )
    unmatched = [_share_unmatched(boxes, part, *shapes) for shapes in candidates]
    chosen = next(i for i, share in enumerate(unmatched) if share <= min(unmatched) + _MANY)
    scales, ratios = candidates[chosen]
    notes.append(
        f"anchors: scales {list(scales)}, ratios {list(ratios)}: {unmatched[chosen]:.1%} of the "
        f"objects match none, of COCO's anchors {unmatched[0]:.1%}"
    )
    return scales, ratios


def _share_unmatched(
    boxes: np.ndarray, part: str, scales: tuple[int, ...], ratios: tuple[float, ...]
) -> float:
    octaves = [2 ** (i / 3) for i in range(3)] if part == "bbox_head" else [1.0]
    sizes = [a * b * c for a, b, c in product(STRIDES[part], scales, octaves)]
    best = np.zeros(len(boxes))
    for size, ratio in product(sizes, ratios):
        anchor = size / math.sqrt(ratio), size * math.sqrt(ratio)
        shared = np.minimum(boxes, anchor).prod(axis=1)
        best = np.maximum(best, shared / (boxes.prod(axis=1) + size**2 - shared))
    return float(np.mean(best < _LEAST_OVERLAP))
