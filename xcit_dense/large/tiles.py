"""Predicting on tiles that overlap: of any model, in a memory that knows no size of raster."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xcit_dense.errors import UserError
from xcit_dense.large.merging import merge
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import runs_of
from xcit_dense.large.sources import Window
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections, SegmentationMap, coco_masks

BLOCK = 256  # sides of the blocks of label rasters


class Part(NamedTuple):
    """The labels of a part of a raster.

    Attributes:
        window: where it lies. It begins and ends at multiples of ``BLOCK``, or with the raster.
        labels: (height, width), of the type that :func:`label_type` names.
        probabilities: float32 (classes, height, width) in [0, 1], if they are wanted.
    """

    window: Window
    labels: np.ndarray
    probabilities: np.ndarray | None = None


class Side(NamedTuple):
    """How tiles lie along one side of a raster.

    Attributes:
        starts: first pixel of each tile.
        length: pixels of each.
        bounds: 0, and where ends what each tile completes, a multiple of ``BLOCK``.
        weights: float32 (tiles, length), how much pixels count; those in one place add up to 1.
    """

    starts: tuple[int, ...]
    length: int
    bounds: tuple[int, ...]
    weights: np.ndarray


def lay_tiles(size: int, tile: int, overlap: int) -> Side:
    """Lay tiles along a side of a raster, evenly, the last one up to its end.

    Args:
        size: pixels of the raster.
        tile: pixels of a tile; as many as the raster has, if these are fewer.
        overlap: how many neighbours share, at least. In as many pixels weights rise and fall.

    Raises:
        UserError: tiles do not proceed.
    """
    if not 0 <= overlap < tile:
        raise UserError(f"--tile {tile} --overlap {overlap}: an overlap is 0 to tile - 1 pixels")
    length = min(tile, size)
    count = 1 + -(-(size - length) // (tile - overlap))
    starts = np.linspace(0, size - length, count).round().astype(int)
    place = starts[:, None] + np.arange(length)
    from_start = np.where(starts > 0, 0.5, np.inf)[:, None] + np.arange(length)
    from_end = np.where(starts + length < size, 0.5, np.inf)[:, None] + np.arange(length)[::-1]
    weights = (np.minimum(from_start, from_end) / max(overlap, 1)).clip(max=1)
    weights /= np.bincount(place.reshape(-1), weights.reshape(-1))[place]
    bounds = (0, *(starts[1:] // BLOCK * BLOCK).tolist(), size)
    return Side(tuple(starts.tolist()), length, bounds, weights.astype(np.float32))


def label_type(classes: int) -> np.dtype:
    """uint8, or uint16 for more than 255 classes; its largest value stands for no label."""
    return np.dtype(np.uint8 if classes <= 255 else np.uint16)


def segment_tiles(
    predictor: Predictor,
    pixels: Pixels,
    tile: int = 1024,
    overlap: int = 256,
    batch_size: int = 1,
    with_probabilities: bool = False,
    scratch: Path | None = None,
    tell: Callable[[int], object] = int,
) -> Iterator[Part]:
    """Label a raster by a segmentor that sees tiles, as they are, without seams.

    Logits are blended linearly where tiles overlap. What a row of tiles leaves for the next one,
    4 bytes x classes x overlap x width of the raster, waits in a file. Tiles of nothing but nodata
    are not computed, and nodata has no label.

    Args:
        predictor: of a segmentor.
        pixels: what it sees.
        tile: side of tiles.
        overlap: how many pixels neighbours share, at least.
        batch_size: tiles at once.
        with_probabilities: whether they are given too.
        scratch: folder of the file, which has no name there; None for the system's.
        tell: is called with the number of tiles that were done since it was last called.

    Yields:
        parts that do not overlap, row by row, from left to right.

    Raises:
        OSError: a part cannot be read, or the file not be written.
        UserError: the tiles do not proceed, or the model gives no logits for its classes.
    """
    rows, columns = (lay_tiles(side, tile, overlap) for side in (pixels.height, pixels.width))
    outputs = _outputs(predictor.logits_of, pixels, rows, columns, batch_size, tell)
    ends = (start + rows.length for start in rows.starts)
    kept_rows = max(end - bound for end, bound in zip(ends, rows.bounds[1:], strict=True))
    with TemporaryFile(dir=scratch) as file:
        above: dict[int, tuple[int, int, int]] = {}  # shapes of what is in the file
        for row, (top, bottom) in enumerate(pairwise(rows.bounds)):
            beside = None  # what tiles to the left began
            for column, (left, right) in enumerate(pairwise(columns.bounds)):
                seen, logits = next(outputs)
                begun = [] if beside is None else [(beside, 0, 0)]
                if column in above:
                    shape = above.pop(column)
                    begun.append((_load(file, 4 * shape[0] * kept_rows * left, shape), 0, 0))
                if logits is not None:
                    weights = np.outer(rows.weights[row], columns.weights[column])
                    weighted = logits.float() * torch.from_numpy(weights).to(logits.device)
                    begun.append((weighted, seen.top - top, seen.left - left))
                sums = beside = None
                if begun:
                    size = seen.top + seen.height - top, seen.left + seen.width - left
                    sums = _sum_of(begun, size)
                    beside = sums[:, :, right - left :].clone()
                    below = sums[:, bottom - top :, : right - left].cpu().numpy()
                    _save(file, 4 * len(below) * kept_rows * left, below)
                    above[column] = below.shape
                    sums = sums[:, : bottom - top, : right - left]
                window = Window(top, left, bottom - top, right - left)
                if window.height and window.width:
                    yield _part(predictor, pixels, window, sums, with_probabilities)


def detect_tiles(
    predictor: Predictor,
    pixels: Pixels,
    tile: int = 1024,
    overlap: int = 256,
    batch_size: int = 1,
    score_thr: float = 0.0,
    tell: Callable[[int], object] = int,
) -> Detections:
    """Find the objects of a raster by a detector that sees tiles, as they are; each comes once.

    Args:
        predictor: of a detector.
        pixels: what it sees.
        tile: side of tiles.
        overlap: how many pixels neighbours share, at least; objects no larger are seen whole.
        batch_size: tiles at once.
        score_thr: least score of what is merged.
        tell: as for :func:`segment_tiles`.

    Returns:
        boxes in pixels of the raster, masks as :mod:`xcit_dense.large.runs`; best scores first.

    Raises:
        OSError: a part cannot be read.
        UserError: the tiles do not proceed, or the model predicts no objects.
    """
    rows, columns = (lay_tiles(side, tile, overlap) for side in (pixels.height, pixels.width))
    predict = partial(predictor.predict_batch, resize=False)
    found, windows = [], []
    for window, prediction in _outputs(predict, pixels, rows, columns, batch_size, tell):
        if isinstance(prediction, SegmentationMap):
            raise UserError("the model labels pixels and finds no objects; use segment_tiles")
        if prediction is not None:
            found.append(_in_raster(prediction.above(score_thr), window))
            windows.append(window)
    return merge(found, windows, (pixels.height, pixels.width))


def _outputs(
    run: Callable[[Sequence[np.ndarray]], Sequence[Any]],
    pixels: Pixels,
    rows: Side,
    columns: Side,
    batch_size: int,
    tell: Callable[[int], object],
) -> Iterator[tuple[Window, Any]]:
    """Tiles, row by row, with what a model gives for each; None where nothing is valid."""
    tiles = (
        Window(top, left, rows.length, columns.length)
        for top in rows.starts
        for left in columns.starts
    )
    while batch := list(islice(tiles, batch_size)):
        images = [_read(pixels, window) for window in batch]
        outputs = iter(run([image for image in images if image is not None]))
        tell(len(batch))
        for window, image in zip(batch, images, strict=True):
            yield window, None if image is None else next(outputs)


def _read(pixels: Pixels, window: Window) -> np.ndarray | None:
    """A tile, with the mean of what is valid where nothing is; None if nothing is at all."""
    image = pixels.read(window)  # first: so damage is found, which is not valid
    valid = pixels.valid(window)
    if valid is None or valid.all():
        return image
    if not valid.any():
        return None
    image[~valid] = image[valid].mean(axis=0).round()
    return image


def _sum_of(pieces: Sequence[tuple[Tensor, int, int]], size: tuple[int, int]) -> Tensor:
    """The sum (C, height, width) of arrays (C, h, w), each at its row and column."""
    newest = pieces[-1][0]
    sums = newest.new_zeros(len(newest), *size)
    for piece, row, column in pieces:
        sums[:, row : row + piece.shape[1], column : column + piece.shape[2]] += piece.to(sums)
    return sums


def _load(file: BinaryIO, place: int, shape: tuple[int, int, int]) -> Tensor:
    """Read an array (C, h, w) of float32."""
    file.seek(place)
    content = bytearray(file.read(4 * int(np.prod(shape))))
    return torch.from_numpy(np.frombuffer(content, np.float32).reshape(shape))


def _save(file: BinaryIO, place: int, array: np.ndarray) -> None:
    file.seek(place)
    file.write(np.ascontiguousarray(array))


def _part(
    predictor: Predictor,
    pixels: Pixels,
    window: Window,
    logits: Tensor | None,
    with_probabilities: bool,
) -> Part:
    """What blended logits (C, height, width) say of a window; nothing if there are none."""
    classes = len(predictor.categories.names)
    kind = label_type(classes)
    shape = window.height, window.width
    if logits is None:
        probabilities = np.zeros((classes, *shape), np.float32) if with_probabilities else None
        return Part(window, np.full(shape, np.iinfo(kind).max, kind), probabilities)
    labels, probabilities = decide(predictor, logits, with_probabilities)
    return Part(window, without_nodata(labels, pixels, window), probabilities)


def decide(
    predictor: Predictor, logits: Tensor, with_probabilities: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels (height, width), and probabilities (classes, height, width) if they are wanted.

    Args:
        predictor: of a segmentor.
        logits: as of :meth:`Predictor.logits_of`.
        with_probabilities: whether.

    Raises:
        UserError: the model gives no logits for its classes.
    """
    classes = len(predictor.categories.names)
    if len(logits) == 1:  # the probability of the class that is told from the rest
        decided = logits[0] > predictor.model.decode_head.threshold
        probable = torch.cat([1 - logits, logits])
    else:
        decided = logits.argmax(0)
        probable = logits.softmax(0) if with_probabilities else logits
    if len(probable) != classes:
        raise UserError(
            f"the model gives logits for {len(probable)} classes, but the checkpoint or the config "
            f"name {classes}"
        )
    labels = decided.cpu().numpy().astype(label_type(classes))
    return labels, probable.float().cpu().numpy() if with_probabilities else None


def without_nodata(labels: np.ndarray, pixels: Pixels, window: Window) -> np.ndarray:
    """The labels of a window, which are changed where there is no data."""
    valid = pixels.valid(window)
    if valid is not None:
        labels[~valid] = np.iinfo(labels.dtype).max
    return labels


def _in_raster(detections: Detections, tile: Window) -> Detections:
    """Detections of a tile where they lie in the raster, masks as runs."""
    masks = None
    if detections.masks is not None:
        decoded = map(coco_masks().decode, detections.masks)
        masks = [runs_of(mask.astype(bool), tile.top, tile.left) for mask in decoded]
    corner = np.array([tile.left, tile.top] * 2, np.float64)
    return Detections(detections.boxes + corner, detections.labels, detections.scores, masks)
