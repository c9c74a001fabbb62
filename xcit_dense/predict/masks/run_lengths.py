"""Binary masks as COCO's run lengths, composed from the part of the image that they lie in.

COCO counts zeros and ones in turn, down the columns, the first column first. A mask that lies in a
window of the image has all its ones there; so its runs follow from the window, and the image, which
may be a thousand times larger, is never made.
"""

from collections.abc import Iterable
from types import ModuleType
from typing import TypedDict

import numpy as np


class RunLengths(TypedDict):
    """A mask in COCO's compressed form, as pycocotools takes it.

    Attributes:
        size: height and width of the image.
        counts: the run lengths, compressed.
    """

    size: list[int]
    counts: bytes


def encode_windows(
    windows: Iterable[tuple[np.ndarray, int, int]], height: int, width: int
) -> RunLengths:
    """Encode a mask that is given piece by piece.

    Args:
        windows: pieces of the mask, bool (h, w), each with the row and the column of its top left
            corner in the image. They stand side by side, from left to right, or are far apart in
            that order; no column belongs to two of them.
        height: rows of the image.
        width: columns of the image.

    Returns:
        What pycocotools makes of the whole mask.
    """
    pieces = [_runs(*window, height) for window in windows]
    starts = np.concatenate([piece[0] for piece in pieces] or [np.empty(0, np.int64)])
    ends = np.concatenate([piece[1] for piece in pieces] or [np.empty(0, np.int64)])
    return _compress(_counts(starts, ends, height * width), height, width)


def encode_mask(mask: np.ndarray) -> RunLengths:
    """Encode a mask (H, W) of the whole image; what is not zero belongs to it."""
    height, width = mask.shape
    return encode_windows([(mask.astype(bool, copy=False), 0, 0)], height, width)


def decode_in_box(run_lengths: RunLengths) -> tuple[np.ndarray, int, int]:
    """The part of the image that a mask lies in.

    Returns:
        bool (h, w), tight around the mask, and the row and the column of its top left corner; an
        empty mask is (0, 0).
    """
    left, top, width, height = _coco_mask().toBbox(run_lengths).astype(int).tolist()
    borders = np.cumsum(_uncompress(run_lengths["counts"]))
    starts, ends = borders[0:-1:2], borders[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    # a run that goes on in the next column makes the box as high as the image, so none leaves it
    columns, rows = np.divmod(starts, run_lengths["size"][0])
    inside = (columns - left) * height + rows - top
    stretches = np.stack((inside, inside + ends - starts), axis=1).ravel()
    lengths = np.diff(stretches, prepend=0, append=width * height)
    is_one = np.arange(len(lengths)) % 2 == 1
    part = np.repeat(is_one, lengths).reshape(width, height).T
    return part, top, left


def boxes_around(masks: list[RunLengths]) -> np.ndarray:
    """Left, top, right, bottom of each mask, (n, 4); zeros around an empty one."""
    boxes = np.array([_coco_mask().toBbox(mask) for mask in masks]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def area(run_lengths: RunLengths) -> int:
    """Pixels of a mask."""
    return int(_coco_mask().area(run_lengths))


def _coco_mask() -> ModuleType:
    """The module of masks in pycocotools, which comes with mmdet; mmseg does without it."""
    from pycocotools import mask

    return mask


def _runs(mask: np.ndarray, top: int, left: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of ones start and end, counted down the columns of the image."""
    columns = mask.T
    edges = np.zeros((columns.shape[0], columns.shape[1] + 1), dtype=bool)
    edges[:, 0] = columns[:, 0]
    edges[:, -1] = columns[:, -1]
    np.not_equal(columns[:, 1:], columns[:, :-1], out=edges[:, 1:-1])
    column, row = edges.nonzero()  # a start and an end in turn, column by column
    position = (left + column).astype(np.int64) * height + top + row
    return position[0::2], position[1::2]


def _counts(starts: np.ndarray, ends: np.ndarray, total: int) -> np.ndarray:
    """Lengths of the runs of zeros and ones in turn."""
    meeting = starts[1:] == ends[:-1]  # at the foot of one column and the head of the next
    starts = starts[np.concatenate(([True], ~meeting))] if len(starts) else starts
    ends = ends[np.concatenate((~meeting, [True]))] if len(ends) else ends
    borders = np.stack((starts, ends), axis=1).ravel()
    counts = np.diff(borders, prepend=0, append=total)
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def _compress(counts: np.ndarray, height: int, width: int) -> RunLengths:
    uncompressed = {"size": [height, width], "counts": counts.tolist()}
    return _coco_mask().frPyObjects(uncompressed, height, width)


def _uncompress(counts: bytes) -> np.ndarray:
    """Lengths of the runs of zeros and ones in turn.

    A number is written in groups of 5 bits, the lowest first, as characters from ``0`` on: bit 5
    says that another group follows, bit 4 of the last one that the number is negative. From the
    fourth number on it is the difference from the last but one.

    Source: pycocotools, the comments on ``rleToString``.
    """
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - ord("0")
    if not len(characters):
        return characters
    ends = np.flatnonzero(characters & 0b100000 == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    groups = ends - starts + 1
    shifts = 5 * (np.arange(len(characters)) - np.repeat(starts, groups))
    numbers = np.add.reduceat((characters & 0b11111) << shifts, starts)
    numbers -= np.where(characters[ends] & 0b10000, 1 << 5 * groups, 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
