"""The ways to predict on a large image."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xcit_dense.large.detectors import DetectorStream
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import in_coco
from xcit_dense.large.segmentors import SegmentorStream
from xcit_dense.large.sources import Window
from xcit_dense.large.tiles import Part, detect_tiles, segment_tiles
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections, from_instances


class Way(NamedTuple):
    """As a stream with attention over a context (None: the whole), or in tiles with an overlap."""

    context: int | None = None
    tile: int | None = None
    overlap: int = 0

    def __str__(self) -> str:
        if self.tile:
            return f"tiles of {self.tile}, overlap {self.overlap}"
        return f"stream, context {self.context or 'whole'}"


class NormalisedRows:
    """The rows of a raster as a model's data preprocessor normalises them; a source of streams."""

    def __init__(self, pixels: Pixels, model: Any) -> None:
        self.height, self.width = pixels.height, pixels.width
        self._pixels, self._preprocess = pixels, model.data_preprocessor

    def read(self, first: int, last: int) -> Tensor:
        """See :class:`xcit_dense.engine.Source`."""
        values = self._pixels.read(Window(first, 0, last - first, self.width))
        inputs = [torch.from_numpy(values).permute(2, 0, 1)]
        normalised = self._preprocess(dict(inputs=inputs, data_samples=[]))["inputs"]
        return normalised[0, :, : last - first, : self.width]  # without padding


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
    rows = NormalisedRows(pixels, predictor.model)
    if predictor.is_segmentor:
        return _bands(SegmentorStream(predictor.model, way.context, scratch), rows)
    return from_instances(DetectorStream(predictor.model, way.context, scratch).instances(rows))


def _bands(stream: SegmentorStream, rows: NormalisedRows) -> Iterable[Part]:
    for first, labels in stream.labels(rows):
        window = Window(first, 0, len(labels), rows.width)
        yield Part(window, labels.to(torch.uint8).cpu().numpy())


def label_all(parts: Iterable[Part], height: int, width: int) -> np.ndarray:
    """The labels of a whole raster, (height, width)."""
    labels = np.empty((height, width), np.uint8)
    for part in parts:
        labels[part.window.slices] = part.labels
    return labels
