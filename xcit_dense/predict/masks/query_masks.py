"""Masks of queries, as MaskFormer and Mask2Former predict them, upsampled one by one.

mmdet upsamples the masks of all queries to the size of the image, as floats, several times over:
more than 24 GB for 100 queries on 6000 x 4000 pixels. Here a query is upsampled alone, and only
where it may be kept; memory does not grow with the number of queries.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xcit_dense.predict.masks.query_panoptic import panoptic_map
from xcit_dense.predict.masks.run_lengths import (
    RunLengths,
    boxes_around,
    encode_mask,
)
from xcit_dense.predict.masks.upsampled_queries import UpsampledQueries
from xcit_dense.predict.own_methods import predicts_as_mm

_POST_PROCESSING = ("predict", "panoptic_postprocess", "instance_postprocess")


def encode_query_masks(model: nn.Module) -> int:
    """Let fusion heads of MaskFormer and Mask2Former work query by query, in place.

    Masks of instances are then a list of :class:`RunLengths`; the panoptic map stays a tensor.
    Heads with a way of their own stay.

    Returns:
        How many heads were changed.
    """
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead

    heads = [
        module
        for module in model.modules()
        if isinstance(module, MaskFormerFusionHead)
        and predicts_as_mm(module)
        and all(
            getattr(type(module), name) is getattr(MaskFormerFusionHead, name)
            for name in _POST_PROCESSING
        )
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
    """
    from mmengine.structures import InstanceData, PixelData

    if head.test_cfg.get("semantic_on", False):  # mmdet's own refuses
        return type(head).predict(
            head, mask_cls_results, mask_pred_results, batch_data_samples, rescale, **kwargs
        )
    results = []
    for classes, logits, sample in zip(
        mask_cls_results, mask_pred_results, batch_data_samples, strict=True
    ):
        height, width = sample.metainfo["img_shape"][:2]
        size = tuple(sample.metainfo["ori_shape"][:2]) if rescale else None
        masks = UpsampledQueries(logits[:, :height, :width], size)
        result = {}
        if head.test_cfg.get("panoptic_on", True):
            result["pan_results"] = PixelData(sem_seg=panoptic_map(head, classes, masks)[None])
        if head.test_cfg.get("instance_on", False):
            result["ins_results"] = InstanceData(**_instances(head, classes, masks))
        results.append(result)
    return results


def _instances(head: nn.Module, classes: Tensor, masks: UpsampledQueries) -> dict[str, Any]:
    """The best pairs of a query and a class of things, in the order of torch's ``topk``.

    A pair scores the probability of its class times the mean one of the pixels in its mask.
    """
    probabilities = classes.softmax(-1)[:, :-1]
    scores, pairs = probabilities.flatten().topk(
        head.test_cfg.get("max_per_image", 100), sorted=False
    )
    labels = pairs % head.num_classes
    is_thing = labels < head.num_things_classes
    scores, labels = scores[is_thing], labels[is_thing]
    queries = (pairs[is_thing] // head.num_classes).tolist()

    encoded = {query: _encode(masks[query], len(queries)) for query in set(queries)}
    run_lengths = [encoded[query][0] for query in queries]
    means = scores.new_tensor([encoded[query][1] for query in queries], dtype=torch.float32)
    return {
        "bboxes": torch.from_numpy(boxes_around(run_lengths)).to(scores.device, torch.float32),
        "labels": labels,
        "scores": scores * means,
        "masks": run_lengths,
    }


def _encode(logits: Tensor, count: int) -> tuple[RunLengths, float]:
    """The mask of a query, (H, W), and the mean probability of its pixels.

    Args:
        logits: (H, W).
        count: how many masks the image has.
    """
    mask = logits > 0
    area = _sum_among(count, mask.float())
    inside = _sum_among(count, logits.sigmoid().float().mul_(mask))
    return encode_mask(mask.cpu().numpy()), (inside / (area + 1e-6)).item()


def _sum_among(count: int, values: Tensor) -> Tensor:
    """Sum of all values, rounded as torch does where it sums ``count`` such maps in one call.

    A single sum is split among threads, several are not.
    """
    return values.flatten().expand(min(count, 2), -1).sum(1)[0]
