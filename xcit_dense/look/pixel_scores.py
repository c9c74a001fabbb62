"""Segmentors, class by class: counts of which class the pixels of each class are taken for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from xcit_dense.look.class_scores import ClassScores

_MOST_IMAGES = 8
_LONGEST_SIDE = 480


@dataclass
class WrongPixels:
    """An image that is badly segmented.

    Attributes:
        path: of the image.
        mean_iou: over the classes that its ground truth has; 1 without any.
        pairs, counts: which places of the flattened confusion matrix have how many of its pixels.
        truth, prediction: label maps, thinned to at most 480 pixels a side; None of better images.
    """

    path: str
    mean_iou: float
    pairs: np.ndarray
    counts: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray | None


class PixelConfusion(BaseMetric):
    """Counts, beside mmseg's ``IoUMetric``, what the pixels of each class are taken for.

    It adds nothing to the metrics. IoUs are those of ``IoUMetric``, which does not keep them. Of an
    image some hundred numbers are kept, of the worst ones of a process thinned label maps too.

    Args:
        ignore_index: label of pixels that are left out.
        collect_device: where processes gather their counts.

    Attributes:
        scores: of the last evaluation, in the main process; None before.
    """

    default_prefix = "pixels"

    def __init__(self, ignore_index: int, collect_device: str = "cpu") -> None:
        super().__init__(collect_device)
        self.ignore_index = ignore_index
        self.scores: ClassScores | None = None
        self._with_maps: list[WrongPixels] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count a batch."""
        classes = len(self.dataset_meta["classes"])
        if not self.results:
            self._with_maps = []
        for sample in data_samples:
            prediction = sample["pred_sem_seg"]["data"].squeeze()
            truth = sample["gt_sem_seg"]["data"].squeeze().to(prediction)
            counted = truth != self.ignore_index
            # labels of no class count as IoUMetric has it: what they are taken for is too large
            rows = truth[counted].long().clamp(max=classes)
            counts = torch.bincount(rows * classes + prediction[counted], minlength=classes)
            counts = counts.cpu().numpy()
            pairs = np.flatnonzero(counts)
            matrix = _matrix([(pairs, counts[pairs])], classes)
            step = -(-max(truth.shape) // _LONGEST_SIDE)
            small = [
                each[::step, ::step].cpu().numpy().astype(np.uint16) for each in (truth, prediction)
            ]
            there = matrix[:-1].any(axis=1)
            mean_iou = _ious(matrix)[0][there].mean() if there.any() else 1.0
            image = WrongPixels(sample.get("img_path", ""), mean_iou, pairs, counts[pairs], *small)
            self.results.append(image)
            ranked = _worst([*self._with_maps, image])
            self._with_maps = ranked[:_MOST_IMAGES]
            for better in ranked[_MOST_IMAGES:]:
                better.truth = better.prediction = None

    def compute_metrics(self, results: list[WrongPixels]) -> dict:
        """Add up the counts of all images; there are no metrics."""
        names = self.dataset_meta["classes"]
        matrix = _matrix([(image.pairs, image.counts) for image in results], len(names))
        iou, recall, precision = _ious(matrix)
        there = matrix[:-1].sum(axis=1)
        confusion = np.zeros((len(names) + 1,) * 2, int)
        confusion[:-1, :-1] = matrix[:-1]
        self.scores = ClassScores(
            {
                "class": np.array(names),
                "pixels": there / max(1, there.sum()),
                "IoU": iou,
                "recall": recall,
                "precision": precision,
            },
            size="pixels",
            main="IoU",
            easier="recall",
            confusion=confusion,
            worst=_worst(results)[:_MOST_IMAGES],
        )
        return {}


def _matrix(images: Sequence[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    """Pixels by what is there, no class last, and what it is taken for: (classes + 1, classes)."""
    total = np.zeros((classes + 1) * classes, int)
    for pairs, counts in images:
        total[pairs] += counts
    return total.reshape(classes + 1, classes)


def _ious(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU, recall and precision of each class, NaN where that is 0 / 0."""
    right = matrix.diagonal()
    there, taken = matrix[:-1].sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return right / (there + taken - right), right / there, right / taken


def _worst(images: Sequence[WrongPixels]) -> list[WrongPixels]:
    known = [image for image in images if image.truth is not None]
    return sorted(known, key=lambda image: image.mean_iou)
