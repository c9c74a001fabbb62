"""Predicting on a raster band by band, without seams, as XCiT can."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xcit_dense.errors import UserError
from xcit_dense.large.parts import expect_known
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import from_coco
from xcit_dense.large.sources import Window
from xcit_dense.large.tiles import BLOCK, Part, decide, label_type, without_nodata
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections, from_instances

_COLUMNS = 4 * BLOCK  # of a part with probabilities: 150 MB for 150 classes


def make_stream(predictor: Predictor, window: int | None, store_folder: Path | None = None) -> Any:
    """The SegmentorStream or DetectorStream of a model.

    Args:
        predictor: of the model.
        window: side of what is seen around each place, in pixels; None for the whole image.
        store_folder: where the tokens lie in a file; None keeps them in memory.

    Raises:
        UserError: it has parts that cannot be run band by band.
        NotAsBuilt: somebody has changed a part, or it has norms that look at whole maps.
    """
    # each needs its own library
    if predictor.is_segmentor:
        from mmseg.models import SegDataPreProcessor as Preprocessor

        from xcit_dense.large.segmentors import SegmentorStream as Stream
    else:
        from mmdet.models import DetDataPreprocessor as Preprocessor

        from xcit_dense.large.detectors import DetectorStream as Stream
    if others := [name for name in predictor.steps if not name.startswith("Pack")]:
        raise UserError(f"{others[0]} of the test pipeline may look at whole images")
    with predictor.autocast():
        stream = Stream(predictor.model, window, store_folder)
    expect_known(predictor.model.data_preprocessor, Preprocessor)
    return stream


class NormalisedPixels:
    """Pixels as a source of the engine: as the model sees them; nodata is the mean of all images.

    Args:
        predictor: of the model.
        pixels: what it sees.
    """

    def __init__(self, predictor: Predictor, pixels: Pixels) -> None:
        self._predictor, self._pixels = predictor, pixels
        self.height, self.width = pixels.height, pixels.width

    def read(self, first: int, last: int) -> Tensor:
        """See :class:`xcit_dense.engine.Source`."""
        window = Window(first, 0, last - first, self.width)
        image = self._predictor.normalised(self._pixels.read(window))
        valid = self.valid(first, last)  # after the read, which finds damage
        if valid is not None:
            image[:, ~valid] = 0
        return image

    def valid(self, first: int, last: int) -> Tensor | None:
        """See :class:`xcit_dense.engine.Source`."""
        valid = self._pixels.valid(Window(first, 0, last - first, self.width))
        return None if valid is None else torch.from_numpy(valid)


def segment_stream(
    predictor: Predictor,
    stream: Any,
    pixels: Pixels,
    with_probabilities: bool = False,
    scratch: Path | None = None,
    tell: Callable[[int], object] = int,
) -> Iterator[Part]:
    """Label a raster by a segmentor that sees a context around each place. Nodata has no label.

    Args:
        predictor: of a segmentor.
        stream: its SegmentorStream.
        pixels: what it sees.
        with_probabilities: whether they are given too; those of 256 rows, 4 bytes x classes x 256 x
            width of the raster, wait in a file.
        scratch: folder of the file, which has no name there; None for the system's.
        tell: is called with numbers of rows of pixels that were labelled.

    Yields:
        parts that do not overlap, row by row, from left to right.

    Raises:
        OSError: the file cannot be written.
        UserError: the model gives no logits for its classes.
    """
    classes, width = len(predictor.categories.names), pixels.width
    labels = np.empty((BLOCK, width), label_type(classes))
    with TemporaryFile(dir=scratch) as file:
        probabilities = None
        if with_probabilities:
            probabilities = np.memmap(file, np.float32, "w+", shape=(classes, BLOCK, width))
        bands = stream.logits(NormalisedPixels(predictor, pixels))
        for first, logits in _each_in(predictor.autocast, bands):
            last = first + logits.shape[1]
            if len(logits) == 1:
                logits = logits.sigmoid()
            for top in range(first // BLOCK * BLOCK, last, BLOCK):
                bottom = min(top + BLOCK, pixels.height)
                start, stop = max(top, first), min(bottom, last)
                rows = logits[:, start - first : stop - first]
                labels[start - top : stop - top], probable = decide(
                    predictor, rows, with_probabilities
                )
                if probabilities is not None:
                    probabilities[:, start - top : stop - top] = probable
                if stop == bottom:
                    yield from _parts(pixels, top, labels[: bottom - top], probabilities)
                tell(stop - start)


def _parts(
    pixels: Pixels, top: int, labels: np.ndarray, probabilities: np.ndarray | None
) -> Iterator[Part]:
    height, width = labels.shape
    across = width if probabilities is None else _COLUMNS
    labels = without_nodata(labels, pixels, Window(top, 0, height, width))
    for left in range(0, width, across):
        place = slice(left, min(left + across, width))
        window = Window(top, left, height, place.stop - left)
        of_part = None if probabilities is None else probabilities[:, :height, place]
        yield Part(window, labels[:, place], of_part)


def detect_stream(
    predictor: Predictor,
    stream: Any,
    pixels: Pixels,
    score_thr: float = 0.0,
    tell: Callable[[int], object] = int,
) -> Detections:
    """Find the objects of a raster by a detector that sees a context around each place.

    Args:
        predictor: of a detector.
        stream: its DetectorStream.
        pixels: what it sees.
        score_thr: least score.
        tell: as for :func:`segment_stream`.

    Returns:
        boxes in pixels of the raster, masks as :mod:`xcit_dense.large.runs`; best scores first.

    Raises:
        UserError: the raster is too large for COCO's run lengths, which masks come in.
    """
    if getattr(predictor.model, "with_mask", False) and pixels.height * pixels.width >= 2**32:
        raise UserError("masks in 2^32 pixels and more are found in tiles only (--mode tiles)")
    with predictor.autocast():
        instances = stream.instances(NormalisedPixels(predictor, pixels), tell)
    found = predictor.named(from_instances(instances)).above(score_thr)
    masks = found.masks and [from_coco(mask) for mask in found.masks]
    return Detections(found.boxes.astype(np.float64), found.labels, found.scores, masks)


def _each_in(context: Callable[[], Any], items: Iterator[Any]) -> Iterator[Any]:
    """The items, each made within a context, which whoever takes them is not in."""
    while True:
        with context():
            item = next(items, None)
        if item is None:
            return
        yield item
