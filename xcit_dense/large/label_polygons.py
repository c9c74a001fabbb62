"""From labels of pixels to polygons, band by band."""

from collections.abc import Iterable, Iterator

import numpy as np

from xcit_dense.large.runs import Polygon, components, neighbours, outlines_of_parts

_LONGEST = 500_000  # runs of areas that are not complete


def label_polygons(
    bands: Iterable[np.ndarray], longest: int = _LONGEST
) -> Iterator[tuple[int, Polygon]]:
    """The areas of pixels with one label that touch by their edges.

    An area is held until it is complete, as runs of pixels along rows. Where those that reach the
    end of a band have more than ``longest`` together, they are cut there.

    Args:
        bands: labels (rows, width), from above; the largest value of their type is no label.
        longest: bounds the memory, which is about 200 bytes a run.

    Yields:
        label and polygon of each area, with corners (column, row).
    """
    held, part = np.empty((0, 4), np.int64), np.empty(0, np.int64)  # runs with labels, and of whom
    top = 0
    for band in bands:
        new = _labelled_runs(band, top)
        last = np.flatnonzero(held[:, 0] == top - 1)
        near = np.concatenate([held[last], new])
        pairs = neighbours(near[:, :3])
        pairs = pairs[near[pairs[:, 0], 3] == near[pairs[:, 1], 3]]
        count = part.max(initial=-1) + 1
        part_of_near = np.append(part[last], count + np.arange(len(new)))
        joined = components(count + len(new), part_of_near[pairs])
        held = np.concatenate([held, new])
        part = joined[np.append(part, count + np.arange(len(new)))]
        top += len(band)
        is_open = np.zeros(part.max(initial=-1) + 1, bool)
        is_open[part[held[:, 0] == top - 1]] = True
        goes_on = is_open[part]
        if goes_on.sum() > longest:
            goes_on[:] = False
        yield from _polygons(held[~goes_on], part[~goes_on])
        held, part = held[goes_on], np.unique(part[goes_on], return_inverse=True)[1]
    yield from _polygons(held, part)


def _labelled_runs(band: np.ndarray, top: int) -> np.ndarray:
    """Runs of one label along rows, (n, 4): row, first column, column after the last, label."""
    height, width = band.shape
    begins = np.ones((height, width), bool)
    np.not_equal(band[:, 1:], band[:, :-1], out=begins[:, 1:])
    first = np.flatnonzero(begins)
    last = np.append(first[1:], height * width)
    row, column = np.divmod(first, width)
    labels = band.reshape(-1)[first].astype(np.int64)
    runs = np.stack([row + top, column, column + last - first, labels], axis=1)
    return runs[labels != np.iinfo(band.dtype).max]


def _polygons(runs: np.ndarray, part: np.ndarray) -> Iterator[tuple[int, Polygon]]:
    """Label and polygon of each part."""
    _, first, part = np.unique(part, return_index=True, return_inverse=True)
    polygons = outlines_of_parts(runs[:, :3], part)
    for label, polygon in zip(runs[first, 3].tolist(), polygons, strict=True):
        # clockwise too, though lines were rows
        yield label, [ring[::-1, ::-1] for ring in polygon]
