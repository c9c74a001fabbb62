"""Masks of queries, as MaskFormer and Mask2Former predict them, upsampled one by one.

mmdet upsamples the masks of all queries to the size of the image, as floats, several times over:
more than 24 GB for 100 queries on 6000 x 4000 pixels. Here a query is upsampled alone, and only
where it may be kept; memory does not grow with the number of queries.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from xcit_dense.predict.masks import INSTANCE_OFFSET, boxes_around, encode_mask, predicts_as_mm

# gives the logits (H, W) of the mask of a query, by its number
Upsample = Callable[[int], Tensor]


def encode_query_masks(model: nn.Module) -> int:
    """Let fusion heads of MaskFormer and Mask2Former work query by query, in place.

    Masks of instances are then a list of run lengths; the panoptic map stays a tensor. Heads with a
    way of their own stay.

    Returns:
        How many heads were changed.
    """
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead

    heads = [
        module
        for module in model.modules()
        if isinstance(module, MaskFormerFusionHead) and predicts_as_mm(module)
    ]
    for head in heads:
        head.predict = partial(_predict, head)
    return len(heads)


@torch.no_grad()
def _predict(
    head: nn.Module,
    mask_cls_results: Tensor,
    mask_pred_results: Tensor,
    batch_data_samples: Sequence[Any],
    rescale: bool = False,
    **kwargs: Any,
) -> list[dict[str, Any]]:
    """What ``MaskFormerFusionHead.predict`` gives: ``pan_results`` and ``ins_results`` of images.

    Args:
        head: the fusion head.
        mask_cls_results: logits of classes, (images, queries, classes and none).
        mask_pred_results: logits of masks, (images, queries, h, w), at the size of the input.
        batch_data_samples: with ``img_shape`` and ``ori_shape``.
        rescale: predict at the size of the original image.
        kwargs: unused, as by mmdet.
    """
    results = []
    for classes, logits, sample in zip(
        mask_cls_results, mask_pred_results, batch_data_samples, strict=True
    ):
        height, width = sample.metainfo["img_shape"][:2]
        size = tuple(sample.metainfo["ori_shape"][:2]) if rescale else (height, width)
        upsample = partial(_upsample, logits[:, :height, :width], size)
        result = {}
        if head.test_cfg.get("panoptic_on", True):
            segments = _panoptic_map(head, classes, upsample, size)
            result["pan_results"] = PixelData(sem_seg=segments[None])
        if head.test_cfg.get("instance_on", False):
            result["ins_results"] = _instances(head, classes, upsample)
        results.append(result)
    return results


def _upsample(logits: Tensor, size: tuple[int, int], query: int) -> Tensor:
    mask = logits[None, query : query + 1]
    return F.interpolate(mask, size=size, mode="bilinear", align_corners=False)[0, 0]


def _instances(head: nn.Module, classes: Tensor, upsample: Upsample) -> InstanceData:
    """The best pairs of a query and a class of things.

    A pair scores the probability of its class times the mean one of the pixels in its mask.
    """
    count = head.test_cfg.get("max_per_image", 100)
    scores, pairs = classes.softmax(-1)[:, :-1].flatten().topk(count, sorted=False)
    labels = pairs % head.num_classes
    is_thing = labels < head.num_things_classes
    scores, labels, pairs = scores[is_thing], labels[is_thing], pairs[is_thing]
    queries = (pairs // head.num_classes).tolist()

    masks, means = {}, {}
    for query in set(queries):
        logits = upsample(query)
        mask = logits > 0
        masks[query] = encode_mask(mask.cpu().numpy())
        inside = logits.sigmoid().float().mul_(mask).sum()
        means[query] = inside / (mask.count_nonzero() + 1e-6)
    encoded = [masks[query] for query in queries]
    weights = torch.stack([means[query] for query in queries]) if queries else scores.new_empty(0)
    return InstanceData(
        bboxes=torch.from_numpy(boxes_around(encoded)).to(scores.device, torch.float32),
        labels=labels,
        scores=scores * weights,
        masks=encoded,
    )


def _panoptic_map(
    head: nn.Module, classes: Tensor, upsample: Upsample, size: tuple[int, int]
) -> Tensor:
    """Label + 1000 * number of the instance for each pixel, int32 (H, W).

    A pixel belongs to the kept query of the largest product of score and probability. Segments that
    lost too much of their query's own mask are left out.
    """
    scores, labels = classes.softmax(-1).max(-1)
    is_kept = (labels != head.num_classes) & (scores > head.test_cfg.get("object_mask_thr", 0.8))
    kept = is_kept.nonzero().flatten().tolist()
    # of each pixel: the strongest query so far, its strength, whether it is in that query's mask
    winner = torch.full(size, -1, dtype=torch.int32, device=classes.device)
    strongest = torch.full(size, -1.0, device=classes.device)
    is_inside = torch.zeros(size, dtype=torch.bool, device=classes.device)
    own_areas = {}
    for query in kept:
        probability = upsample(query).sigmoid()
        inside = probability >= 0.5
        strength = scores[query] * probability
        wins = strength > strongest
        winner[wins] = query
        strongest = torch.where(wins, strength, strongest)
        is_inside = torch.where(wins, inside, is_inside)
        own_areas[query] = int(inside.count_nonzero())

    segments = torch.full(size, head.num_classes, dtype=torch.int32, device=classes.device)
    instance = 0
    for query in kept:
        wins = winner == query
        area = int(wins.count_nonzero())
        if not area or not own_areas[query]:
            continue
        if area / own_areas[query] < head.test_cfg.get("iou_thr", 0.8):
            continue
        number = int(labels[query])
        if number < head.num_things_classes:
            instance += 1
            number += instance * INSTANCE_OFFSET
        if head.test_cfg.get("filter_low_score", False):
            wins &= is_inside
        segments[wins] = number
    return segments
