"""What is predicted for an image, apart from any library's classes, and what its labels mean."""

from collections.abc import Iterable, Mapping
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS
from torch import Tensor

from xcit_dense.errors import UserError
from xcit_dense.mm.config import innermost_dataset, model_scope

INSTANCE_OFFSET = 1000  # mmdet numbers the segments of a panoptic map by label + 1000 * instance

RunLengths = dict[str, Any]
"""A mask as pycocotools takes it: ``size``, height and width, and compressed ``counts``."""


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
        """Those for which ``kept``, bool (n,), is true, or those of its indexes, in their order."""
        return Detections(
            boxes=self.boxes[kept],
            labels=self.labels[kept],
            scores=None if self.scores is None else self.scores[kept],
            masks=self.masks and [self.masks[index] for index in np.arange(len(self))[kept]],
        )


@dataclass(frozen=True)
class SegmentationMap:
    """The class of every pixel of an image.

    Attributes:
        labels: int (H, W), counted from 0; 255 for pixels without a class, as in ground truth.
    """

    labels: np.ndarray


Prediction = Detections | SegmentationMap


@dataclass(frozen=True)
class Categories:
    """What a model tells apart.

    Attributes:
        names: of each label.
        palette: red, green and blue of each label, 0 to 255.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


def coco_masks() -> ModuleType:
    """The module of masks in pycocotools, which comes with mmdet; mmseg does without it."""
    from pycocotools import mask

    return mask


def encode_mask(mask: np.ndarray) -> RunLengths:
    """Encode a mask (H, W) of the whole image; what is not zero belongs to it."""
    return coco_masks().encode(np.asfortranarray(mask.astype(bool, copy=False).view(np.uint8)))


def encode_columns(
    parts: Iterable[tuple[int, np.ndarray]], top: int, size: tuple[int, int]
) -> RunLengths:
    """Encode a mask that is empty but for some columns, without making the others.

    COCO counts zeros and ones in turn, down the columns, the first column first.

    Args:
        parts: from left to right the column of the image where a part begins, and bool (n, h), its
            columns, which lie side by side.
        top: the row of the image where all columns begin.
        size: height and width of the image.
    """
    height, width = size
    borders = [np.zeros(0, int)]
    for first, columns in parts:
        ends = np.zeros((len(columns), 1), bool)
        column, row = np.diff(columns, axis=1, prepend=ends, append=ends).nonzero()
        borders.append((first + column) * height + top + row)
    places, times = np.unique(np.concatenate(borders), return_counts=True)
    places = places[times == 1]  # a run that ends where one begins goes on in the next column
    counts = np.diff(places, prepend=0, append=height * width)
    if len(counts) > 1 and not counts[-1]:
        counts = counts[:-1]
    uncompressed = {"size": [height, width], "counts": counts.tolist()}
    return coco_masks().frPyObjects(uncompressed, height, width)


def boxes_around(masks: list[RunLengths]) -> np.ndarray:
    """Left, top, right, bottom of each mask, (n, 4); zeros around an empty one."""
    boxes = np.array([coco_masks().toBbox(mask) for mask in masks]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def from_sample(sample: Any) -> Prediction:
    """Read the prediction out of a data sample of mmdet or mmseg.

    Raises:
        ValueError: it has none of a kind that is known.
    """
    if "pred_sem_seg" in sample and "pred_instances" not in sample:
        return SegmentationMap(sample.pred_sem_seg.data[0].cpu().long().numpy())
    if "pred_panoptic_seg" in sample:  # every segment is an object without a score
        segments = sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()
        numbers = np.unique(segments)
        masks = [encode_mask(segments == number) for number in numbers]
        return Detections(boxes_around(masks), numbers % INSTANCE_OFFSET, masks=masks)
    if "pred_instances" in sample:
        return from_instances(sample.pred_instances)
    raise ValueError(
        f"the model predicts {sorted(sample.keys())}; wanted are instances, a semantic or a "
        "panoptic segmentation"
    )


def from_instances(instances: Any) -> Detections:
    """Read predicted or annotated instances of mmdet."""
    masks = instances.get("masks")
    if masks is not None and not isinstance(masks, list):  # of run lengths
        arrays = masks.cpu().numpy() if isinstance(masks, Tensor) else masks.to_ndarray()
        masks = [encode_mask(mask) for mask in arrays]
    boxes = getattr(instances.bboxes, "tensor", instances.bboxes).cpu().float().numpy()
    if masks and not boxes.any():  # models without a branch for boxes leave zeros
        boxes = boxes_around(masks)
    return Detections(
        boxes=boxes,
        labels=instances.labels.cpu().long().numpy(),  # CrowdDet's are floats
        scores=instances.scores.cpu().float().numpy() if "scores" in instances else None,
        masks=masks,
    )


def ground_truth_of(sample: Any) -> list[Prediction]:
    """The label map and the instances that a data sample of mmdet or mmseg has.

    Raises:
        UserError: the label map has several channels.
    """
    truth: list[Prediction] = []
    if "gt_sem_seg" in sample:
        found = sample.gt_sem_seg
        labels = (found.data if "data" in found else found.sem_seg).cpu().numpy()
        if labels.ndim != 3 or labels.shape[0] != 1:
            raise UserError(
                f"the label map {sample.metainfo.get('seg_map_path', '')} has the shape "
                f"{labels.shape}; wanted is one channel with the number of the class of each "
                "pixel: convert maps in colours before"
            )
        truth.append(SegmentationMap(labels[0]))
    if "gt_instances" in sample and "bboxes" in sample.gt_instances:
        truth.append(from_instances(sample.gt_instances))
    return truth


def categories_of(metainfo: Mapping[str, Any], source: object) -> Categories:
    """The classes that a data set describes.

    Colours are its own where there is one for each class. Else (classes of one's own in mmdet's
    ``CocoDataset`` come with COCO's 80) they are hues far from each other.

    Args:
        metainfo: of a data set. As in mm, the names may be in a file, one a line.
        source: whose it is, for the messages.

    Raises:
        FileNotFoundError: the names are a text, and no such file.
        UserError: it names no classes.
    """
    names = metainfo.get("classes")
    if isinstance(names, str):
        names = list_from_file(names)
    if names is None or not len(names):
        raise UserError(
            f"{source}: neither it nor the test data of the config name the classes; add "
            "metainfo=dict(classes=(...)) to test_dataloader.dataset"
        )
    palette = metainfo.get("palette")
    if not isinstance(palette, list | tuple | np.ndarray) or len(palette) != len(names):
        hues = np.arange(len(names)) / len(names)
        colours = [hsv_to_rgb(hue, 0.85, (1, 0.6)[i % 2]) for i, hue in enumerate(hues)]
        palette = np.multiply(colours, 255)
    return Categories(tuple(names), tuple(tuple(map(int, colour)) for colour in palette))


def metainfo_of_test_data(cfg: Config) -> dict[str, Any]:
    """What the config and the data set's class say about the test data; no data are needed."""
    dataset = innermost_dataset((cfg.get("test_dataloader") or {}).get("dataset") or {})
    kind = dataset.get("type")
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(model_scope(cfg)) as datasets:
            try:
                kind = datasets.get(kind)
            except RuntimeError:  # nobody has registered it, and predictions do without
                kind = None
    return {**getattr(kind, "METAINFO", {}), **(dataset.get("metainfo") or {})}


def metainfo_of_checkpoint(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says about its data, also one of mmdet 2 or mmseg 0, in capitals."""
    meta = checkpoint.get("meta") or {}
    described = meta.get("dataset_meta") or meta
    if not isinstance(described, Mapping):
        return {}
    described = {name.lower(): value for name, value in described.items()}
    found = {name: described.get(name) for name in ("classes", "palette")}
    return {name: value for name, value in found.items() if value is not None and len(value)}
