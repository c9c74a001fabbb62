"""What suits a data set: size of images, anchors, and a schedule for its number of images."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from xcit_dense.errors import UserError

# The recipe of the XCiT paper's release for COCO (configs/_base_/schedules/adamw_3x.py).
BASE_BATCH_SIZE = 16
_RATE, _EPOCHS, _WARM_UP, _STEPS, _LOG_INTERVAL = 1e-4, 36, 500, (27 / 36, 33 / 36), 50
_SHORT_SIDES = (480, 800)
_LARGEST_SHORT_SIDE = 1200  # of the recipes in configs/resolution/
_FEW_IMAGES, _MOST_EPOCHS = 24_000, 300

SMALL = 8
"""Pixels, after scaling: two places of the finest map, less than what a detector can tell apart."""
_EASY = 24

STRIDES = {"rpn_head": (4, 8, 16, 32, 64), "bbox_head": (8, 16, 32, 64, 128)}
"""Of the maps that anchors are on, in heads of two stages and of one."""
_RATIOS = ((0.5, 1.0, 2.0), (0.25, 0.5, 1.0, 2.0, 4.0))
_ANCHOR_SCALES = {
    "rpn_head": ((8,), (4,), (2,), (4, 8), (2, 4, 8)),
    "bbox_head": ((4,), (3,), (2,), (1,)),  # each with two more within its octave
}
_LEAST_OVERLAP = 0.3  # of an anchor with an object that it may learn: min_pos_iou of the RPN


@dataclass(frozen=True)
class Anchors:
    """Shapes of anchors, and how they suit.

    Attributes:
        part: the head that has them, ``rpn_head`` or ``bbox_head`` (RetinaNet's).
        scales: sizes on a map, in its strides; RetinaNet's octave_base_scale.
        ratios: heights over widths.
        unmatched: the share of objects that none has an IoU of 0.3 with, at the best place.
        unmatched_by_default: the same of the recipe's for COCO.
    """

    part: str
    scales: tuple[int, ...]
    ratios: tuple[float, ...]
    unmatched: float
    unmatched_by_default: float


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        batch_size: images of a step, of all GPUs together.
        epochs: how often every image is seen.
        iterations: steps of an epoch.
        rate: the learning rate, of AdamW.
        warm_up: steps in which it grows to that.
        steps: epochs after which it is a tenth of what it was.
        interval: epochs between checkpoints, each evaluated.
        log_interval: steps between lines of the log.
    """

    batch_size: int
    epochs: int
    iterations: int
    rate: float
    warm_up: int
    steps: tuple[int, ...]
    interval: int
    log_interval: int


def propose_schedule(num_images: int, batch_size: int, gpus: int, epochs: int | None) -> Schedule:
    """A schedule for a training of ``num_images``, by the recipe of the XCiT paper's release.

    Every image is seen 36 times, as there, and more often where there are few. The rate is that of
    the recipe times the whole batch over the recipe's 16 images.
    """
    whole_batch = batch_size * gpus
    if whole_batch > num_images:
        raise UserError(
            f"a batch of {batch_size} images on each of {gpus} GPUs is more than the {num_images} "
            "that can be trained on: lower --batch-size or --gpus"
        )
    if epochs is None:
        epochs = min(max(_EPOCHS, math.ceil(_FEW_IMAGES / num_images)), _MOST_EPOCHS)
    least = math.ceil(epochs / _EPOCHS)
    iterations = math.ceil(math.ceil(num_images / gpus) / batch_size)
    return Schedule(
        batch_size=whole_batch,
        epochs=epochs,
        iterations=iterations,
        rate=float(f"{_RATE * whole_batch / BASE_BATCH_SIZE:.6g}"),
        # mmengine's warm-up of a single step would never end
        warm_up=max(min(_WARM_UP, iterations * epochs // 10), 2),
        steps=tuple(sorted({round(share * epochs) for share in _STEPS} - {0, epochs})),
        # mmengine evaluates the last epoch only if the interval divides it
        interval=min(range(least, max(least, epochs // 12) + 1), key=lambda i: epochs % i),
        log_interval=min(_LOG_INTERVAL, iterations),
    )


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
    if short > most and share_of_small(image_sizes, boxes, scale) > 0.05:
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


def share_of_small(image_sizes: np.ndarray, boxes: np.ndarray, scale: tuple[int, int]) -> float:
    """The share of objects that are smaller than 8 pixels, by their area, after scaling."""
    return float(np.mean(sizes_of(scaled(image_sizes, boxes, scale)) < SMALL))


def propose_anchors(boxes: np.ndarray, part: str) -> Anchors:
    """The fewest anchors that leave at most 5% more of the objects unmatched than the most do.

    The recipe's leave about as many of COCO's.

    Args:
        boxes: (N, 2), width and height of the objects after scaling.
        part: the head that has the anchors, one of ``STRIDES``.
    """
    candidates = sorted(
        product(_ANCHOR_SCALES[part], _RATIOS), key=lambda shapes: len(shapes[0]) * len(shapes[1])
    )
    unmatched = [_share_unmatched(boxes, part, *shapes) for shapes in candidates]
    chosen = next(i for i, share in enumerate(unmatched) if share <= min(unmatched) + 0.05)
    return Anchors(part, *candidates[chosen], unmatched[chosen], unmatched[0])


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
