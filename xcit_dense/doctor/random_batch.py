"""Batches of random images with a few objects, or a few regions, in them."""

from typing import Any

import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from xcit_dense.doctor.trial import Size, Trial
from xcit_dense.mm.config import dicts_in, model_scope, type_name
from xcit_dense.swap import rules

# left, top, right, bottom as parts of the image: large, middle, small
_BOXES = [(0.1, 0.1, 0.8, 0.9), (0.5, 0.2, 0.9, 0.6), (0.1, 0.5, 0.25, 0.75)]


def random_batch(trial: Trial, batch_size: int) -> dict[str, Any]:
    """What a data loader would give to the model of a trial.

    Returns:
        ``inputs``, images (C, H, W) of bytes, and ``data_samples`` with everything that mm's models
        learn from: boxes and labels of objects, masks if the config loads them, labels of pixels,
        and, for detectors that make none, proposals.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, trial.image_channels, *trial.image_size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    annotate = _segmented if model_scope(trial.cfg) == "mmseg" else _detected
    return {"inputs": list(images), "data_samples": [annotate(trial) for _ in images]}


def _segmented(trial: Trial) -> Any:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=_metainfo(trial.image_size))
    sample.gt_sem_seg = PixelData(data=_regions(trial))
    # for heads that learn edges too
    sample.gt_edge_map = PixelData(data=torch.zeros(1, *trial.image_size))
    return sample


def _detected(trial: Trial) -> Any:
    from mmdet.structures import DetDataSample

    height, width = trial.image_size
    boxes = torch.tensor(_BOXES) * torch.tensor([width, height, width, height])
    labels = torch.arange(len(boxes)) % _number_of_classes(trial)
    sample = DetDataSample(metainfo=_metainfo(trial.image_size))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=labels[:0])
    if not getattr(trial.model, "with_rpn", True):
        sample.proposals = InstanceData(bboxes=boxes + 2)
    steps = [node for _, node in dicts_in(trial.cfg.get("train_dataloader"))]
    # detectors of boxes are not made for masks: RTMDet's label assigner fails on them
    loads = [step.get("with_mask", type_name(step) in rules.MASK_LOADERS) for step in steps]
    if any(loads) or not steps:
        sample.gt_instances.masks = _masks_of(boxes, trial.image_size)
    # label maps of hybrid task cascades come at an eighth of the resolution
    scales = [step["scale_factor"] for step in steps if type_name(step) == rules.LABEL_MAP_SCALER]
    every = round(1 / scales[0]) if scales else 1
    sample.gt_sem_seg = PixelData(sem_seg=_regions(trial)[:, ::every, ::every])
    return sample


def _metainfo(size: Size) -> dict[str, Any]:
    sizes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size)
    file = {"img_id": 0, "img_path": "random.png"}
    flip = {"flip": False, "flip_direction": None}
    return {**file, **sizes, **flip, "scale_factor": (1.0, 1.0), "border": (0, size[0], 0, size[1])}


def _number_of_classes(trial: Trial) -> int:
    """The smallest of all heads, so that every label is one for each of them."""
    counts = [node.get("num_classes") for _, node in dicts_in(trial.config)]
    return min((count for count in counts if isinstance(count, int)), default=1)


def _regions(trial: Trial) -> Tensor:
    """Labels (1, H, W) in vertical stripes."""
    height, width = trial.image_size
    stripes = min(_number_of_classes(trial), 4)
    return (torch.arange(width) * stripes // width).repeat(1, height, 1)


def _masks_of(boxes: Tensor, size: Size) -> Any:
    """The whole boxes as masks."""
    from mmdet.structures.mask import BitmapMasks

    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return BitmapMasks(masks.numpy(), *size)
