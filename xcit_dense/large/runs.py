"""Masks in rasters of any size, as runs of pixels along lines: no array of the raster's size.

Runs are int64 (n, 3): a line, the first pixel of the run and the one after its last. They are in
order, and those of a line do not touch. Lines are columns, as in COCO's run lengths, where nothing
else is said.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xcit_dense.large.sources import Window
from xcit_dense.predict.results import Detections, RunLengths, coco_masks

Runs = np.ndarray
Polygon = list[np.ndarray]
"""Rings of corners (k, 2): the outer one, then those around holes; the last corner is not the first
again."""

NOTHING: Runs = np.empty((0, 3), np.int64)


def runs_of(mask: np.ndarray, top: int = 0, left: int = 0) -> Runs:
    """The runs of a mask, bool (h, w), that lies at a place of a raster."""
    height, width = mask.shape
    columns = np.zeros((width, height + 1), bool)
    columns[:, :-1] = mask.T
    borders = np.flatnonzero(np.diff(columns.reshape(-1), prepend=False))
    column, row = np.divmod(borders, height + 1)
    return np.stack([column[::2] + left, row[::2] + top, row[1::2] + top], axis=1)


def mask_of(runs: Runs, window: Window) -> np.ndarray:
    """What of a mask lies in a window, bool (height, width)."""
    column, first, last = clip(runs, window).T
    changes = np.zeros((window.width, window.height + 1), np.int8)
    changes[column - window.left, first - window.top] = 1
    changes[column - window.left, last - window.top] = -1
    return changes.cumsum(axis=1, dtype=np.int8)[:, :-1].T.astype(bool)


def in_coco(found: Detections, size: tuple[int, int]) -> Detections:
    """Objects with masks in COCO's run lengths, of the height and width of the raster.

    Those have 32 bits; for rasters of 2^32 pixels or more masks are left out.
    """
    masks = None
    if found.masks is not None and size[0] * size[1] < 2**32:
        masks = [to_coco(mask, *size) for mask in found.masks]
    return Detections(found.boxes, found.labels, found.scores, masks)


def to_coco(runs: Runs, height: int, width: int) -> RunLengths:
    """A mask in COCO's run lengths, in a raster of less than 2^32 pixels."""
    borders = (runs[:, :1] * height + runs[:, 1:]).reshape(-1)
    goes_on = np.flatnonzero(borders[1:] == borders[:-1])  # from a column's foot to the next head
    borders = np.delete(borders, np.append(goes_on, goes_on + 1))
    counts = np.diff(borders, prepend=0, append=height * width)
    counts = counts if counts[-1] or len(counts) == 1 else counts[:-1]
    uncompressed = {"size": [height, width], "counts": counts.tolist()}
    return coco_masks().frPyObjects(uncompressed, height, width)


def from_coco(mask: RunLengths) -> Runs:
    """The runs of a mask in COCO's run lengths."""
    height = mask["size"][0]
    codes = np.frombuffer(mask["counts"], np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)  # a number is digits of 5 bits, the least one first
    starts = np.append(0, ends[:-1] + 1)
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    counts = np.add.reduceat((codes & 31) << 5 * places, starts)
    counts -= (codes[ends] >> 4 & 1) << 5 * (places[ends] + 1)
    for first in (1, 2):  # from the fourth on they are differences to the last but one
        counts[first::2] = counts[first::2].cumsum()
    borders = counts.cumsum()
    first, last = borders[0 : len(borders) // 2 * 2 : 2], borders[1::2]
    column = first // height
    lines = np.maximum(-(-last // height) - column, 1)
    index = np.repeat(np.arange(len(first)), lines)
    line = column[index] + np.arange(len(index)) - np.repeat(lines.cumsum() - lines, lines)
    top, bottom = ((places[index] - line * height).clip(0, height) for places in (first, last))
    return np.stack([line, top, bottom], axis=1)[top < bottom]


def area(runs: Runs) -> int:
    """Its pixels."""
    return int((runs[:, 2] - runs[:, 1]).sum())


def clip(runs: Runs, window: Window) -> Runs:
    """The part of a mask that lies in a window."""
    runs = runs[np.searchsorted(runs[:, 0], window.left) :]
    runs = runs[: np.searchsorted(runs[:, 0], window.left + window.width)].copy()
    runs[:, 1:] = runs[:, 1:].clip(window.top, window.top + window.height)
    return runs[runs[:, 1] < runs[:, 2]]


def shared_area(one: Runs, other: Runs) -> int:
    """The pixels that lie in both of two masks."""
    if not len(one) or not len(other):
        return 0
    (start, end), (first, last) = _flat(one), _flat(other)
    before = np.cumsum(end - start) - (end - start)  # pixels of `one` before each of its runs

    def pixels_until(place: np.ndarray) -> np.ndarray:
        run = np.searchsorted(start, place, "right") - 1
        inside = np.minimum(place, end[run]) - start[run]
        return np.where(run < 0, 0, before[run] + inside)

    return int((pixels_until(last) - pixels_until(first)).sum())


def unite(masks: Sequence[Runs]) -> Runs:
    """The mask of what lies in any of some masks."""
    runs = np.concatenate([NOTHING, *masks])
    runs = runs[np.lexsort((runs[:, 1], runs[:, 0]))]
    if not len(runs):
        return runs
    start, end = _flat(runs)
    reached = np.maximum.accumulate(end)
    begins = np.append(True, start[1:] > reached[:-1])
    ends = np.append(begins[1:], True)
    return np.stack([runs[begins, 0], runs[begins, 1], reached[ends] & (2**32 - 1)], axis=1)


def _flat(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Where runs begin and end if lines follow each other."""
    line = runs[:, 0] << 32
    return line + runs[:, 1], line + runs[:, 2]


def neighbours(runs: Runs) -> np.ndarray:
    """Pairs of runs in lines side by side that have positions in common, (pairs, 2) of indexes.

    Here runs of a line may touch.
    """
    start, _ = _flat(runs)
    pairs = []
    for step in (-1, 1):  # the later one of two beginnings lies in both runs
        found = np.searchsorted(start, start + (step << 32), "right") - 1
        is_beside = (runs[found, 0] == runs[:, 0] + step) & (runs[found, 2] > runs[:, 1])
        pairs.append(np.stack([np.flatnonzero(is_beside), found[is_beside]]))
    return np.concatenate(pairs, axis=1).T


def components(count: int, pairs: np.ndarray) -> np.ndarray:
    """Which things hang together, by pairs (n, 2): a number from 0 for each of them."""
    graph = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), (count, count))
    return connected_components(graph, directed=False)[1]


def outlines(runs: Runs) -> list[Polygon]:
    """The outlines of the parts of a mask, along the edges of its pixels.

    Parts touch by edges of pixels, not by corners.

    Returns:
        a polygon a part, with corners (column, row); those of outer rings go clockwise.
    """
    return outlines_of_parts(runs, components(len(runs), neighbours(runs)))


def outlines_of_parts(runs: Runs, part: np.ndarray) -> list[Polygon]:
    """The outline of each part of a mask.

    Args:
        runs: in any order; those of a part are as in a mask.
        part: int (n,), the part of each run, counted from 0, each with a run.

    Returns:
        a polygon a part, with corners (line, position).
    """
    count = len(runs)
    line, first, last = runs.T
    # a run's edge at its first position leads to the next line, that at its last one leads back
    starts, ends = np.append(line, line + 1), np.append(line + 1, line)
    position = np.append(first, last)
    is_first = np.repeat([True, False], count)
    # where lines meet, one side only has pixels between every other of these points and the next
    points = np.lexsort(
        (np.tile(is_first, 2), np.tile(position, 2), np.append(starts, ends), np.tile(part, 4))
    ).reshape(-1, 2)
    arriving, leaving = points.max(axis=1) - 2 * count, points.min(axis=1)
    following = np.empty(2 * count, np.int64)
    following[arriving] = leaving

    walk, ring = _walk(following.tolist())
    ring_area = np.bincount(ring, np.where(is_first, -position, position)).astype(np.int64)
    part_of_ring = np.empty(len(ring_area), np.int64)
    part_of_ring[ring] = np.tile(part, 2)
    turning = walk[position[walk] != position[following[walk]]]
    corners = np.stack(
        [ends[turning], position[turning], ends[turning], position[following[turning]]], axis=1
    ).reshape(-1, 2)
    bounds = np.cumsum(2 * np.bincount(ring[turning]))[:-1]
    rings = np.split(corners, bounds)
    polygons: list[Polygon] = [[] for _ in range(int(part.max(initial=-1)) + 1)]
    for index in np.argsort(ring_area < 0, kind="stable") if count else ():  # outer ones first
        polygons[part_of_ring[index]].append(rings[index])
    return polygons


def _walk(following: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Edges in the order of their rings, and the number of each edge's ring."""
    walk: list[int] = []
    ring = [-1] * len(following)
    number = 0
    for edge in range(len(following)):
        if ring[edge] < 0:
            while ring[edge] < 0:
                ring[edge] = number
                walk.append(edge)
                edge = following[edge]
            number += 1
    return np.array(walk, np.int64), np.array(ring, np.int64)
