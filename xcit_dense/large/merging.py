"""One detection of each object, from those of tiles that overlap.

Two tiles see the same pixels where they overlap, so what they find is compared there and nowhere
else: of one object both have found the same part of it, wherever it goes on.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from xcit_dense.large.runs import area, clip, components, shared_area, unite
from xcit_dense.large.sources import Window
from xcit_dense.predict.results import Detections

_SAME = 0.5  # intersection over union of what two tiles found of one object, as for NMS
_CONTAINED = 0.7  # share of a piece at the border of its tile that lies in what another tile found
_AT_BORDER = 1.5  # pixels between a box and the border that cuts its object


def merge(
    found: Sequence[Detections], tiles: Sequence[Window], size: tuple[int, int]
) -> Detections:
    """Merge what was found on tiles.

    Detections of two tiles are of one object if they have one label and, where the tiles overlap,
    share at least half of what either has there, by masks or else by boxes. Pieces at a border
    within the raster that have no partner so belong to what they mostly lie in.

    If a tile holds all that belongs together, its detection is kept, the best one of several such
    tiles. Else all are united, under the best score.

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
    group = components(len(together), np.array(pairs, int).reshape(-1, 2))
    tile_of = np.repeat(np.arange(len(tiles)), np.diff(first))
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    merged = _joined(
        [_one_of(together, group, [tiles[t] for t in tile_of[group]]) for group in groups]
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
    """Which boxes reach a border of their tile that lies within the raster."""
    left, top, right, bottom = boxes.T
    tile_bottom, tile_right = tile.top + tile.height, tile.left + tile.width
    return (
        ((tile.top > 0) & (top <= tile.top + _AT_BORDER))
        | ((tile.left > 0) & (left <= tile.left + _AT_BORDER))
        | ((tile_bottom < size[0]) & (bottom >= tile_bottom - _AT_BORDER))
        | ((tile_right < size[1]) & (right >= tile_right - _AT_BORDER))
    )


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
    shared = (high - low).clip(min=0).prod(axis=2) * (found.labels[:, None] == others.labels)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, other_boxes))
    if found.masks is not None:
        candidates = np.argwhere(shared > 0)
        parts, other_parts = {}, {}
        for index, other in candidates:
            if index not in parts:
                parts[index] = clip(found.masks[index], window)
                areas[index] = area(parts[index])
            if other not in other_parts:
                other_parts[other] = clip(others.masks[other], window)
                other_areas[other] = area(other_parts[other])
            shared[index, other] = shared_area(parts[index], other_parts[other])
    united = areas[:, None] + other_areas - shared
    of_union = shared / united.clip(min=1e-9)
    has_partner, have_partner = np.zeros(len(found), bool), np.zeros(len(others), bool)
    likely = np.argwhere(of_union >= _SAME)
    for index, other in likely[np.argsort(-of_union[tuple(likely.T)], kind="stable")]:
        if not has_partner[index] and not have_partner[other]:
            has_partner[index] = have_partner[other] = True
            yield index, other
    if not shared.size:
        return
    for index in np.flatnonzero(is_cut & ~has_partner):
        other = shared[index].argmax()
        if shared[index, other] > _CONTAINED * areas[index]:
            yield index, other
    for other in np.flatnonzero(are_cut & ~have_partner):
        index = shared[:, other].argmax()
        if shared[index, other] > _CONTAINED * other_areas[other]:
            yield index, other


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
    scores = None if together.scores is None else together.scores[indexes]
    if is_whole.any():
        whole = indexes[is_whole]
        best = 0 if scores is None else scores[is_whole].argmax()
        return together.where(whole[[best]])
    return Detections(
        boxes=box[None],
        labels=together.labels[indexes[:1]],
        scores=None if scores is None else scores.max(keepdims=True),
        masks=together.masks and [unite([together.masks[index] for index in indexes])],
    )
