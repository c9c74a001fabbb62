"""The ways to predict on a large image."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import in_coco
from xcit_dense.large.streaming import detect_stream, make_stream, segment_stream
from xcit_dense.large.tiles import Part, detect_tiles, segment_tiles
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections


class Way(NamedTuple):
    """As a stream with attention over a context (None: the whole), or in tiles with an overlap."""

    context: int | None = None
    tile: int | None = None
    overlap: int = 0

    def __str__(self) -> str:
        if self.tile:
            return f"tiles of {self.tile}, overlap {self.overlap}"
        return f"stream, context {self.context or 'whole'}"


def predict(
    predictor: Predictor, pixels: Pixels, way: Way, batch_size: int, scratch: Path | None = None
) -> Iterable[Part] | Detections:
    """Labels of parts of a raster, or the objects in it, masks in COCO's run lengths.

    Args:
        predictor: of a segmentor or a detector.
        pixels: the raster.
        way: how.
        batch_size: tiles at once.
        scratch: folder of tokens and of what tiles leave; None for memory, and for the system's.
    """
    if way.tile:
        tiling = dict(tile=way.tile, overlap=way.overlap, batch_size=batch_size)
        if predictor.is_segmentor:
            return segment_tiles(predictor, pixels, scratch=scratch, **tiling)
        return in_coco(detect_tiles(predictor, pixels, **tiling), (pixels.height, pixels.width))
    stream = make_stream(predictor, way.context, scratch)
    if predictor.is_segmentor:
        return segment_stream(predictor, stream, pixels, scratch=scratch)
    return in_coco(detect_stream(predictor, stream, pixels), (pixels.height, pixels.width))


def label_all(parts: Iterable[Part], height: int, width: int) -> np.ndarray:
    """The labels of a whole raster, (height, width)."""
    labels = np.empty((height, width), np.uint8)
    for part in parts:
        labels[part.window.slices] = part.labels
    return labels
