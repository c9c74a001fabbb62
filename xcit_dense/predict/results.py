"""What is predicted for an image, apart from any library's classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from xcit_dense.predict.masks.run_lengths import RunLengths, boxes_around, encode_mask

# mmdet numbers the segments of a panoptic map by label + 1000 * instance.
_LABELS_OF_A_PANOPTIC_MAP = 1000


@dataclass(frozen=True)
class Detections:
    """The objects found in an image.

    Attributes:
        boxes: float (n, 4), left, top, right, bottom in pixels of the image.
        labels: int (n,), counted from 0.
        scores: float (n,) in [0, 1]; None where there are none, as for ground truth.
        masks: n of them, in COCO's run lengths; None where the model predicts boxes only.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    masks: list[RunLengths] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, threshold: float) -> "Detections":
        """The detections that score at least ``threshold``."""
        return self if self.scores is None else self.where(self.scores >= threshold)

    def where(self, kept: np.ndarray) -> "Detections":
        """Those for which ``kept``, bool (n,), is true."""
        return Detections(
            boxes=self.boxes[kept],
            labels=self.labels[kept],
            scores=None if self.scores is None else self.scores[kept],
            masks=self.masks and [self.masks[index] for index in np.flatnonzero(kept)],
        )


@dataclass(frozen=True)
class SegmentationMap:
    """The class of every pixel of an image.

    Attributes:
        labels: int (H, W), counted from 0; 255 for pixels without a class, as in ground truth.
    """

    labels: np.ndarray


Prediction = Detections | SegmentationMap


def from_sample(sample: Any) -> Prediction:
    """Read the prediction out of a data sample of mmdet or mmseg.

    Raises:
        ValueError: it has none of a kind that is known.
    """
    if "pred_sem_seg" in sample and "pred_instances" not in sample:
        return SegmentationMap(sample.pred_sem_seg.data[0].cpu().numpy())
    if "pred_panoptic_seg" in sample:
        return _from_panoptic_map(sample.pred_panoptic_seg.sem_seg[0].cpu().numpy())
    if "pred_instances" in sample:
        return from_instances(sample.pred_instances)
    raise ValueError(
        f"the model predicts {sorted(sample.keys())}; wanted are instances, a semantic or a "
        "panoptic segmentation"
    )


def from_instances(instances: Any) -> Detections:
    """Read predicted or annotated instances of mmdet."""
    masks = _encoded(instances.masks) if "masks" in instances else None
    boxes = getattr(instances.bboxes, "tensor", instances.bboxes).cpu().float().numpy()
    if masks and not boxes.any():  # models without a branch for boxes leave zeros
        boxes = boxes_around(masks)
    return Detections(
        boxes=boxes,
        labels=instances.labels.cpu().long().numpy(),  # CrowdDet's are floats
        scores=instances.scores.cpu().float().numpy() if "scores" in instances else None,
        masks=masks,
    )


def _encoded(masks: Any) -> list[RunLengths]:
    """Run lengths of masks that are such, or a tensor, or one of mmdet's structures."""
    if isinstance(masks, list):
        return masks
    if isinstance(masks, Tensor):
        return [encode_mask(mask.cpu().numpy()) for mask in masks]
    return [encode_mask(mask) for mask in masks.to_ndarray()]


def _from_panoptic_map(segments: np.ndarray) -> Detections:
    """Every segment of a panoptic map as one object without a score."""
    numbers = np.unique(segments)
    masks = [encode_mask(segments == number) for number in numbers]
    return Detections(boxes_around(masks), numbers % _LABELS_OF_A_PANOPTIC_MAP, masks=masks)
