"""Batches of random images with a few objects, or a few regions, in them."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from xcit_dense.doctor.trial_model import TrialModel
from xcit_dense.mm.config_tree import dicts_in, model_scope, type_name

# left, top, right, bottom as parts of the image: large, middle, small
_BOXES = [(0.1, 0.1, 0.8, 0.9), (0.5, 0.2, 0.9, 0.6), (0.1, 0.5, 0.25, 0.75)]
_IGNORED_LABEL = 255


def synthetic_batch(
    trial: TrialModel, cfg: Config, batch_size: int, ignores: bool = True
) -> dict[str, Any]:
    """What a data loader would give to the model.

    Args:
        trial: the model.
        cfg: the config that it is from.
        batch_size: number of images.
        ignores: whether a few pixels have the label that the heads of a segmentor ignore.

    Returns:
        ``inputs``, images (3, H, W) of bytes, and ``data_samples`` with everything that mm's models
        learn from: boxes and labels of objects, masks if the config loads them, labels of pixels,
        and, for detectors that make none, proposals.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = trial.image_size
    channels = trial.image_channels
    images = [
        torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8)
        for _ in range(batch_size)
    ]
    classes = _number_of_classes(trial.config)
    if model_scope(cfg) == "mmseg":
        ignored = _ignored_label(trial.config) if ignores else None
        samples = [_segmentation_sample(trial.image_size, classes, ignored) for _ in images]
    else:
        shrink = _label_map_shrinks_by(cfg)
        masks = _has_masks(cfg)
        samples = [_detection_sample(trial.image_size, classes, shrink, masks) for _ in images]
        if not getattr(trial.model, "with_rpn", True):
            for sample in samples:
                sample.proposals = InstanceData(bboxes=sample.gt_instances.bboxes + 2)
    return {"inputs": images, "data_samples": samples}


def _number_of_classes(config: dict) -> int:
    """The smallest number of classes of a head, so that every label is one for all of them."""
    counts = [
        node["num_classes"]
        for _, node in dicts_in(config, "model")
        if isinstance(node.get("num_classes"), int)
    ]
    return min(counts, default=1)


def _ignored_label(config: dict) -> int | None:
    """The label that all heads ignore; None where they differ."""
    labels = {
        node.get("ignore_index", _IGNORED_LABEL)
        for _, node in dicts_in(config, "model")
        if "num_classes" in node
    }
    return labels.pop() if len(labels) == 1 else None


def _has_masks(cfg: Config) -> bool:
    """Whether training loads masks; yes where nothing tells.

    Detectors of boxes are not made for masks: RTMDet's label assigner fails on them.
    """
    loads = [
        node.get("with_mask", type_name(node) == "LoadPanopticAnnotations")
        for _, node in dicts_in(cfg.get("train_dataloader"), "train_dataloader")
        if type_name(node).startswith("Load") and type_name(node).endswith("Annotations")
    ]
    return any(loads) or not loads


def _label_map_shrinks_by(cfg: Config) -> int:
    """The label maps of hybrid task cascades come at an eighth of the resolution."""
    for _, node in dicts_in(cfg.get("train_dataloader"), "train_dataloader"):
        if type_name(node) == "SegRescale":
            return round(1 / node["scale_factor"])
    return 1


def _metainfo(size: tuple[int, int]) -> dict[str, Any]:
    return {
        "img_id": 0,
        "img_path": "synthetic.png",
        "img_shape": size,
        "ori_shape": size,
        "pad_shape": size,
        "batch_input_shape": size,
        "scale_factor": (1.0, 1.0),
        "flip": False,
        "flip_direction": None,
        "border": (0, size[0], 0, size[1]),
    }


def _regions(
    size: tuple[int, int], classes: int, ignored: int | None = _IGNORED_LABEL
) -> torch.Tensor:
    """Labels (1, H, W) in vertical stripes, with a row that is to be ignored, if any can be."""
    height, width = size
    labels = (torch.arange(width) * min(classes, 4) // width).expand(1, height, width).clone()
    if ignored is not None:
        labels[:, 0] = ignored
    return labels


def _segmentation_sample(size: tuple[int, int], classes: int, ignored: int | None) -> Any:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=_metainfo(size))
    sample.gt_sem_seg = PixelData(data=_regions(size, classes, ignored))
    # for heads that learn edges too
    sample.gt_edge_map = PixelData(data=torch.zeros(1, *size))
    return sample


def _detection_sample(size: tuple[int, int], classes: int, shrink: int, has_masks: bool) -> Any:
    from mmdet.structures import DetDataSample

    height, width = size
    boxes = torch.tensor(_BOXES) * torch.tensor([width, height, width, height])
    sample = DetDataSample(metainfo=_metainfo(size))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)) % classes)
    if has_masks:
        sample.gt_instances.masks = _masks_of(boxes, size)
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    labels = _regions(size, classes)[:, ::shrink, ::shrink]
    sample.gt_sem_seg = PixelData(sem_seg=labels)
    return sample


def _masks_of(boxes: torch.Tensor, size: tuple[int, int]) -> Any:
    """The whole boxes as masks."""
    from mmdet.structures.mask import BitmapMasks

    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return BitmapMasks(masks.numpy(), *size)
