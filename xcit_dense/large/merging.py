"""One detection of each object, from those of tiles that overlap.

Two tiles see the same pixels where they overlap, so what they find is compared there and nowhere
else: of one object both have found the same part of it, wherever it goes on.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from xcit_dense.large.runs import area, clip, shared_area, unite
from xcit_dense.large.sources import Window
from xcit_dense.predict.results import Detections

_SAME = 0.5  # intersection over union of what two tiles found of one object, as for NMS
_CONTAINED = 0.7  # share of a piece at the border of its tile that lies in what another tile found
_DOUBTFUL = 0.5  # of the score of an object's best detection
_AT_BORDER = 0.1  # of its side a box, of an object that is cut, may end before the border


def merge(
    found: Sequence[Detections], tiles: Sequence[Window], size: tuple[int, int]
) -> Detections:
    """Merge what was found on tiles.

    Detections of two tiles are of one object if they have one label and, where the tiles overlap,
    share at least half of what either has there, by masks or else by boxes. A piece at a border
    within the raster that has no partner so belongs to what it mostly lies in: of its label, or
    else of another one and better, if the other tile sees all of the piece.

    All that hangs together so is one object, but for what scores less than half of its best
    detection: such doubtful ones are left out, for they may reach over to the next object.

    If a tile holds all that belongs together, its detection is kept, the best one of several such
    tiles. Else all are united, with the label and the score of the best one.

    Args:
        found: on each tile; boxes in pixels of the raster, masks as runs.
        tiles: where they lie. Objects that are cut are united where tiles overlap.
        size: height and width of the raster.

    Returns:
        as ``found``, best scores first.
    """
    together = _joined(found)
    if not len(together):
        return together
    cut = [_is_cut(each.boxes, tile, size) for each, tile in zip(found, tiles, strict=True)]
    first = np.cumsum([0, *map(len, found)])
    pairs = [
        (first[one] + index, first[other] + partner)
        for one, other, window in _overlaps(tiles)
        for index, partner in _partners(found[one], found[other], cut[one], cut[other], window)
    ]
    tile_of = np.repeat(np.arange(len(tiles)), np.diff(first))
    merged = _joined(
        [
            _one_of(together, group, [tiles[t] for t in tile_of[group]])
            for group in _groups(pairs, _scores(together))
        ]
    )
    if merged.scores is None:
        return merged
    return merged.where(np.argsort(-merged.scores, kind="stable"))


def _joined(found: Sequence[Detections]) -> Detections:
    """All detections as one."""
    if not found:
        return Detections(np.empty((0, 4)), np.empty(0, int), np.empty(0))
    has_scores, has_masks = found[0].scores is not None, found[0].masks is not None
    return Detections(
        boxes=np.concatenate([each.boxes for each in found]),
        labels=np.concatenate([each.labels for each in found]),
        scores=np.concatenate([each.scores for each in found]) if has_scores else None,
        masks=[mask for each in found for mask in each.masks] if has_masks else None,
    )


def _groups(pairs: Sequence[tuple[int, int]], scores: np.ndarray) -> Iterator[np.ndarray]:
    """Indexes of the detections of each object, the best one first."""
    partners: list[list[int]] = [[] for _ in scores]
    for one, other in pairs:
        partners[one].append(other)
        partners[other].append(one)
    is_left = np.ones(len(scores), bool)
    for best in np.argsort(-scores, kind="stable"):
        if is_left[best]:
            is_left[best] = False
            group = [best]
            for member in group:  # which grows
                for partner in partners[member]:
                    if is_left[partner] and scores[partner] >= _DOUBTFUL * scores[best]:
                        group.append(partner)
                    is_left[partner] = False
            yield np.array(group)


def _scores(found: Detections) -> np.ndarray:
    return np.zeros(len(found)) if found.scores is None else found.scores


def _overlaps(tiles: Sequence[Window]) -> Iterator[tuple[int, int, Window]]:
    """Each pair of tiles that overlap, and where."""
    begins = np.array([(tile.top, tile.left) for tile in tiles])
    ends = begins + [(tile.height, tile.width) for tile in tiles]
    for one in range(len(tiles)):
        begin = np.maximum(begins[one], begins[one + 1 :])
        sides = np.minimum(ends[one], ends[one + 1 :]) - begin
        for other in np.flatnonzero((sides > 0).all(axis=1)):
            window = Window(*begin[other].tolist(), *sides[other].tolist())
            yield one, one + 1 + int(other), window


def _is_cut(boxes: np.ndarray, tile: Window, size: tuple[int, int]) -> np.ndarray:
    """Which boxes reach, about, a border of their tile that lies within the raster."""
    begins = np.array([tile.left, tile.top])
    ends = np.array([tile.left + tile.width, tile.top + tile.height])
    reach = 1 + _AT_BORDER * (boxes[:, 2:] - boxes[:, :2])
    is_at_begin = (begins > 0) & (boxes[:, :2] <= begins + reach)
    is_at_end = (ends < size[::-1]) & (boxes[:, 2:] >= ends - reach)
    return (is_at_begin | is_at_end).any(axis=1)


def _partners(
    found: Detections,
    others: Detections,
    is_cut: np.ndarray,
    are_cut: np.ndarray,
    window: Window,
) -> Iterator[tuple[int, int]]:
    """Pairs of detections of two tiles that are of one object, by what lies in the overlap."""
    boxes, other_boxes = _clipped(found.boxes, window), _clipped(others.boxes, window)
    low = np.maximum(boxes[:, None, :2], other_boxes[:, :2])
    high = np.minimum(boxes[:, None, 2:], other_boxes[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, other_boxes))
    if found.masks is not None:
        parts, other_parts = {}, {}
        for index, other in np.argwhere(shared > 0):
            if index not in parts:
                parts[index] = clip(found.masks[index], window)
                areas[index] = area(parts[index])
            if other not in other_parts:
                other_parts[other] = clip(others.masks[other], window)
                other_areas[other] = area(other_parts[other])
            shared[index, other] = shared_area(parts[index], other_parts[other])
    is_alike = found.labels[:, None] == others.labels
    united = areas[:, None] + other_areas - shared
    of_union = is_alike * shared / united.clip(min=1e-9)
    has_none, have_none = np.ones(len(found), bool), np.ones(len(others), bool)
    likely = np.argwhere(of_union >= _SAME)
    for index, other in likely[np.argsort(-of_union[tuple(likely.T)], kind="stable")]:
        if has_none[index] and have_none[other]:
            has_none[index] = have_none[other] = False
            yield index, other
    is_better = is_worse = np.zeros_like(is_alike)
    if found.scores is not None:
        is_seen, are_seen = _is_within(found.boxes, window), _is_within(others.boxes, window)
        is_better = (found.scores[:, None] > others.scores) & are_seen
        is_worse = (found.scores[:, None] < others.scores) & is_seen[:, None]
    yield from _owners(shared, areas, is_alike, is_worse, is_cut & has_none)
    pairs = _owners(shared.T, other_areas, is_alike.T, is_better.T, are_cut & have_none)
    yield from (pair[::-1] for pair in pairs)


def _owners(
    shared: np.ndarray,
    areas: np.ndarray,
    is_alike: np.ndarray,
    is_worse: np.ndarray,
    pieces: np.ndarray,
) -> Iterator[tuple[int, int]]:
    """What of another tile pieces mostly lie in: of their label, or else what is better.

    Args:
        shared: the pixels that detections of two tiles share, (n, m).
        areas: (n,) of the first ones.
        is_alike: (n, m), they have one label.
        is_worse: (n, m), the second one has a better score, and its tile sees all of the first one.
        pieces: (n,), which of the first ones are looked at.
    """
    is_inside = shared > _CONTAINED * areas[:, None]
    for index in np.flatnonzero(pieces):
        for fits in (is_inside[index] & is_alike[index], is_inside[index] & is_worse[index]):
            if fits.any():
                yield index, int((shared[index] * fits).argmax())
                break


def _is_within(boxes: np.ndarray, window: Window) -> np.ndarray:
    return (np.abs(boxes - _clipped(boxes, window)) <= 1).all(axis=1)


def _clipped(boxes: np.ndarray, window: Window) -> np.ndarray:
    """What of boxes lies in a window; nothing, with no area, of others."""
    right, bottom = window.left + window.width, window.top + window.height
    low = np.maximum(boxes[:, :2], (window.left, window.top))
    high = np.minimum(boxes[:, 2:], (right, bottom))
    return np.hstack([low, np.maximum(low, high)])


def _one_of(together: Detections, indexes: np.ndarray, tiles: Sequence[Window]) -> Detections:
    """The one detection, (1,), of those of an object, each with its tile."""
    boxes = together.boxes[indexes]
    box = np.append(boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0))
    holds_all = [
        tile.left <= box[0]
        and tile.top <= box[1]
        and box[2] <= tile.left + tile.width
        and box[3] <= tile.top + tile.height
        for tile in tiles
    ]
    sides, side = boxes[:, 2:] - boxes[:, :2], box[2:] - box[:2]
    is_whole = holds_all & (sides.prod(axis=1) >= _SAME * side.prod())
    scores = _scores(together)[indexes]
    if is_whole.any():
        whole = np.flatnonzero(is_whole)
        return together.where(indexes[whole[[scores[whole].argmax()]]])
    best = together.where(indexes[[scores.argmax()]])
    masks = together.masks and [unite([together.masks[index] for index in indexes])]
    return Detections(box[None], best.labels, best.scores, masks)
