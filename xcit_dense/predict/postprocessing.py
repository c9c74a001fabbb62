"""What mm makes of a network's outputs, with memory that does not grow with their number.

mmdet makes the masks of an image as one array of instances x height x width, and those of queries
several times over, as floats: 2.4 GB for 100 pasted masks on 6000 x 4000 pixels, over 24 GB for 100
queries. mmseg resizes the logits of every class to the original image: 14 GB for 150 classes. Here
a mask is made and encoded before the next one, and classes are resized one by one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from xcit_dense.predict.results import (
    INSTANCE_OFFSET,
    RunLengths,
    boxes_around,
    encode_columns,
    encode_mask,
)

_PIXELS_IN_A_BAND = 2**20
_LIBRARIES = ("mmengine", "mmdet", "mmseg")
_THAT_PREDICT = ("predict", "test_step", "add_pred", "postprocess")


def _predicts_as_mm(module: nn.Module) -> bool:
    """Whether all methods of a module that predict are the libraries' own.

    A user's own method may call mm's and then read its results, as arrays and logits.
    """
    kind = type(module)
    methods = (
        getattr(kind, name) for name in dir(kind) if any(part in name for part in _THAT_PREDICT)
    )
    return all(
        getattr(method, "__module__", "").partition(".")[0] in _LIBRARIES for method in methods
    )


def encode_masks(model: nn.Module) -> int:
    """Let a detector predict masks one by one, as run lengths instead of arrays, in place.

    Heads are changed that are mmdet's own: those that paste masks in boxes (Mask R-CNN, Cascade)
    and those that fuse queries (MaskFormer, Mask2Former, panoptic maps too). Others stay. Masks of
    instances are then a list of :class:`RunLengths`, which COCO's evaluation takes as it is.

    Returns:
        How many heads were changed.
    """
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.models.seg_heads import panoptic_fusion_heads as fusion

    if not _predicts_as_mm(model):
        return 0
    kinds = (FCNMaskHead, fusion.BasePanopticFusionHead)
    heads = [module for module in model.modules() if isinstance(module, kinds)]
    # fusion that is not of queries needs the arrays
    are_fused = any(isinstance(head, fusion.BasePanopticFusionHead) for head in heads)
    pasted = FCNMaskHead._predict_by_feat_single
    count = 0
    for head in filter(_predicts_as_mm, heads):
        if isinstance(head, fusion.MaskFormerFusionHead):
            head.predict = partial(_predict_queries, head)
        elif not are_fused and type(head)._predict_by_feat_single is pasted:
            head._predict_by_feat_single = partial(predict_in_boxes, head)
        else:
            continue
        count += 1
    return count


def keep_classes_only(model: nn.Module) -> bool:
    """Let a segmentor predict the class of each pixel and no logits, in place.

    Returns:
        Whether it was changed: segmentors that predict in their own way stay.
    """
    from mmseg.models import BaseSegmentor

    if not isinstance(model, BaseSegmentor) or not _predicts_as_mm(model):
        return False
    model.postprocess_result = partial(_predict_classes, model)
    return True


@contextmanager
def keeping_logits(segmentor: nn.Module) -> Iterator[None]:
    """Undo :func:`keep_classes_only` for as long as the context lasts."""
    ours = vars(segmentor).pop("postprocess_result", None)
    try:
        yield
    finally:
        if ours is not None:
            segmentor.postprocess_result = ours


@torch.no_grad()
def predict_in_boxes(
    head: nn.Module,
    mask_preds: Tensor,
    bboxes: Tensor,
    labels: Tensor,
    img_meta: dict[str, Any],
    rcnn_test_cfg: Any,
    rescale: bool = False,
    activate_map: bool = False,
) -> list[RunLengths] | Tensor:
    """What ``FCNMaskHead._predict_by_feat_single`` does, with run lengths for its result.

    As there, ``bboxes`` are scaled to the original image in place: their owner relies on it.
    """
    threshold = rcnn_test_cfg.mask_thr_binary
    if not rescale or threshold < 0:  # for others than evaluation; or mmdet gives probabilities
        as_mmdet = partial(type(head)._predict_by_feat_single, head)
        return as_mmdet(mask_preds, bboxes, labels, img_meta, rcnn_test_cfg, rescale, activate_map)
    bboxes /= bboxes.new_tensor(img_meta["scale_factor"]).repeat(2)  # horizontal, vertical
    masks = torch.as_tensor(mask_preds).to(bboxes) if activate_map else mask_preds.sigmoid()
    classes = torch.zeros_like(labels) if head.class_agnostic else labels
    masks = masks[torch.arange(len(masks), device=masks.device), classes]
    size = img_meta["ori_shape"][:2]
    return [
        _encode_in_box(mask, box, size, threshold)
        for mask, box in zip(masks.float(), bboxes.float(), strict=True)
    ]


def _encode_in_box(
    mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float
) -> RunLengths:
    """Paste a mask of probabilities (h, w) into its box, in bands of columns, and encode it."""
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    height, width = size
    # with one pixel on each side, where interpolation reaches, as by mmdet
    left, top = (box[:2].floor() - 1).clamp(min=0).tolist()
    right, bottom = (box[2:].ceil() + 1).minimum(box.new_tensor([width, height])).tolist()
    if not (left < right and top < bottom):  # outside of the image, or not a number
        return encode_columns([], 0, size)
    left, right, top, bottom = int(left), int(right), int(top), int(bottom)
    across = max(1, _PIXELS_IN_A_BAND // (bottom - top))

    def paste(first: int) -> tuple[int, np.ndarray]:
        beside = box - box.new_tensor([first, 0, first, 0])
        beyond = min(across, right - first)
        part, (rows, columns) = _do_paste_mask(mask[None, None], beside[None], height, beyond)
        band = np.zeros((beyond, bottom - top), bool)
        rows = slice(rows.start - top, rows.stop - top)
        band[columns, rows] = (part[0] >= threshold).T.cpu().numpy()
        return first, band

    return encode_columns(map(paste, range(left, right, across)), top, size)


@torch.no_grad()
def _predict_queries(
    head: nn.Module,
    mask_cls_results: Tensor,
    mask_pred_results: Tensor,
    batch_data_samples: Sequence[Any],
    rescale: bool = False,
    **kwargs: Any,
) -> list[dict[str, Any]]:
    """What ``MaskFormerFusionHead.predict`` does, upsampling the mask of one query at a time.

    Logits of classes are (images, queries, classes and none), those of masks (images, queries, h,
    w) at the size of the input.
    """
    results = []
    for classes, logits, sample in zip(
        mask_cls_results, mask_pred_results, batch_data_samples, strict=True
    ):
        height, width = sample.metainfo["img_shape"][:2]
        size = tuple(sample.metainfo["ori_shape"][:2]) if rescale else (height, width)
        logits = logits[:, :height, :width]  # without padding
        result = {}
        if head.test_cfg.get("panoptic_on", True):
            segments = _panoptic_map(head, classes, logits, size)
            result["pan_results"] = PixelData(sem_seg=segments[None])
        if head.test_cfg.get("instance_on", False):
            result["ins_results"] = _instances(head, classes, logits, size)
        results.append(result)
    return results


def _upsample(logits: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Logits (h, w) of a query or a class, at the size of the image."""
    resized = F.interpolate(logits[None, None], size, mode="bilinear", align_corners=align_corners)
    return resized[0, 0]


def _instances(
    head: nn.Module, classes: Tensor, logits: Tensor, size: tuple[int, int]
) -> InstanceData:
    """The best pairs of a query and a class of things.

    A pair scores the probability of its class times the mean one of the pixels in its mask.
    """
    count = head.test_cfg.get("max_per_image", 100)
    scores, pairs = classes.softmax(-1)[:, :-1].flatten().topk(count, sorted=False)
    is_thing = pairs % head.num_classes < head.num_things_classes
    scores, pairs = scores[is_thing], pairs[is_thing]
    queries = pairs // head.num_classes

    masks, means = {}, torch.zeros(len(classes), device=scores.device)
    for query in set(queries.tolist()):
        upsampled = _upsample(logits[query], size)
        mask = upsampled > 0
        masks[query] = encode_mask(mask.cpu().numpy())
        means[query] = upsampled.sigmoid().float().mul_(mask).sum() / (mask.count_nonzero() + 1e-6)
    encoded = [masks[query] for query in queries.tolist()]
    return InstanceData(
        bboxes=torch.from_numpy(boxes_around(encoded)).to(scores.device, torch.float32),
        labels=pairs % head.num_classes,
        scores=scores * means[queries],
        masks=encoded,
    )


def _panoptic_map(
    head: nn.Module, classes: Tensor, logits: Tensor, size: tuple[int, int]
) -> Tensor:
    """Label + 1000 * number of the instance for each pixel, int32 (H, W).

    A pixel belongs to the kept query of the largest product of score and probability. Segments that
    lost too much of their query's own mask are left out.
    """
    scores, labels = classes.softmax(-1).max(-1)
    is_kept = (labels != head.num_classes) & (scores > head.test_cfg.get("object_mask_thr", 0.8))
    winner = torch.full(size, -1, dtype=torch.int32, device=classes.device)
    largest = torch.full(size, -1.0, device=classes.device)
    own_areas = {}
    for query in is_kept.nonzero().flatten().tolist():
        probability = _upsample(logits[query], size).sigmoid()
        own_areas[query] = int((probability >= 0.5).count_nonzero())
        product = scores[query] * probability
        winner[product > largest] = query
        largest = torch.maximum(largest, product)

    segments = torch.full(size, head.num_classes, dtype=torch.int32, device=classes.device)
    instance = 0
    for query, own_area in own_areas.items():
        wins = winner == query
        area = int(wins.count_nonzero())
        if not area or not own_area or area / own_area < head.test_cfg.get("iou_thr", 0.8):
            continue
        number = int(labels[query])
        if number < head.num_things_classes:
            instance += 1
            number += instance * INSTANCE_OFFSET
        if head.test_cfg.get("filter_low_score", False):
            wins &= largest >= 0.5 * scores[query]
        segments[wins] = number
    return segments


def _predict_classes(
    segmentor: nn.Module, seg_logits: Tensor, data_samples: list[Any]
) -> list[Any]:
    """What ``BaseSegmentor.postprocess_result`` does, without ``seg_logits`` in the samples."""
    as_mmseg = partial(type(segmentor).postprocess_result, segmentor)
    for logits, sample in zip(seg_logits, data_samples, strict=True):
        if len(logits) == 1 or sample.get("flip"):
            as_mmseg(logits[None], [sample])
            del sample.seg_logits
        else:
            padding = sample.get("img_padding_size", sample.get("padding_size", (0, 0, 0, 0)))
            left, right, top, bottom = padding
            inner = logits[:, top : logits.shape[1] - bottom, left : logits.shape[2] - right]
            labels = _class_map(inner, sample.ori_shape[:2], segmentor.align_corners)
            sample.set_data({"pred_sem_seg": PixelData(data=labels)})
    return data_samples


def _class_map(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """The class (1, H, W) of each pixel of an image of that size, the first of equal ones."""
    largest = logits.new_full(size, -torch.inf)
    labels = torch.zeros(size, dtype=torch.int16, device=logits.device)
    for label, coarse in enumerate(logits):
        resized = _upsample(coarse, size, align_corners)
        labels.masked_fill_(resized > largest, label)
        torch.maximum(largest, resized, out=largest)
    return labels.long()[None]
