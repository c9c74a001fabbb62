"""Masks of detected boxes, encoded one by one where they lie.

mmdet pastes the predicted masks of an image into one array of instances x height x width: 2.4 GB
for 100 instances on 6000 x 4000 pixels, before they are encoded or drawn. Here a mask is sampled
and encoded in its box, in bands of columns, so that memory grows with the length of its outline.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xcit_dense.predict.masks.run_lengths import RunLengths, encode_windows
from xcit_dense.predict.own_methods import predicts_as_mm

PIXELS_IN_A_BAND = 2**20


@torch.no_grad()
def encode_box_masks(
    probabilities: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5
) -> list[RunLengths]:
    """Paste masks into an image and encode them, without making the image.

    Args:
        probabilities: (n, h, w), of each box.
        boxes: (n, 4), left, top, right, bottom in pixels of the image.
        height: rows of the image.
        width: columns of the image.
        threshold: least probability of a pixel of the mask.

    Returns:
        The masks, n of them, equal to those that mmdet pastes on a CPU.
    """
    return [
        encode_windows(_bands(mask, box, height, width, threshold), height, width)
        for mask, box in zip(probabilities.float(), boxes.float(), strict=True)
    ]


def encode_masks_in_boxes(model: nn.Module) -> int:
    """Let the mask heads of a detector predict run lengths instead of arrays, in place.

    Heads that paste masks in boxes as ``FCNMaskHead`` does are changed, those of Mask R-CNN and
    Cascade Mask R-CNN among them; others stay. The masks of a prediction are then a list of
    :class:`RunLengths`, which COCO's evaluation takes as it is. Models that fuse the masks to a
    panoptic map need arrays and stay too.

    Returns:
        How many heads were changed.
    """
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.models.seg_heads.panoptic_fusion_heads.base_panoptic_fusion_head import (
        BasePanopticFusionHead,
    )

    if any(isinstance(module, BasePanopticFusionHead) for module in model.modules()):
        return 0
    heads = [
        module
        for module in model.modules()
        if isinstance(module, FCNMaskHead)
        and type(module)._predict_by_feat_single is FCNMaskHead._predict_by_feat_single
        and predicts_as_mm(module)
    ]
    for head in heads:
        head._predict_by_feat_single = partial(_predict_run_lengths, head)
    return len(heads)


def _predict_run_lengths(
    head: nn.Module,
    mask_preds: Tensor,
    bboxes: Tensor,
    labels: Tensor,
    img_meta: dict[str, Any],
    rcnn_test_cfg: Any,
    rescale: bool = False,
    activate_map: bool = False,
) -> list[RunLengths]:
    """What ``FCNMaskHead._predict_by_feat_single`` does, with run lengths for its result.

    As there, ``bboxes`` are scaled to the original image in place: their owner relies on it.
    """
    threshold = rcnn_test_cfg.mask_thr_binary
    if threshold < 0:  # mmdet gives probabilities then
        raise ValueError(f"mask_thr_binary={threshold}: run lengths need a threshold of at least 0")
    scale = bboxes.new_tensor(img_meta["scale_factor"])  # (horizontal, vertical)
    height, width = img_meta["ori_shape"][:2]
    if rescale:
        bboxes /= scale.repeat(2)
    else:
        width, height = (
            round(side) for side in (scale * scale.new_tensor([width, height])).tolist()
        )
    masks = bboxes.new_tensor(mask_preds) if activate_map else mask_preds.sigmoid()
    classes = torch.zeros_like(labels) if head.class_agnostic else labels
    masks = masks[torch.arange(len(masks), device=masks.device), classes]
    return encode_box_masks(masks, bboxes, height, width, threshold)


def _bands(
    mask: Tensor, box: Tensor, height: int, width: int, threshold: float
) -> Iterator[tuple[np.ndarray, int, int]]:
    """The mask in the image, band by band of its box, each with its row and column."""
    left, top, right, bottom = box.tolist()
    # a pixel around the box, where interpolation still reaches
    rows = _pixels(top, bottom, height)
    columns = _pixels(left, right, width)
    if not rows or not columns:
        return
    across = max(1, PIXELS_IN_A_BAND // len(rows))
    vertical = _normalized(rows, box[1], box[3])
    for first in range(columns.start, columns.stop, across):
        band = range(first, min(first + across, columns.stop))
        horizontal = _normalized(band, box[0], box[2])
        grid = torch.stack(torch.meshgrid(horizontal, vertical, indexing="xy"), dim=-1)
        sampled = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
        yield (sampled >= threshold).cpu().numpy(), rows.start, first


def _pixels(low: float, high: float, size: int) -> range:
    """The pixels that an interval touches, and one on each side, within ``size``."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return range(0)
    first = max(0, int(np.floor(low)) - 1)
    return range(first, max(first, min(size, int(np.ceil(high)) + 1)))


def _normalized(pixels: Sequence[int], low: Tensor, high: Tensor) -> Tensor:
    """Centres of pixels in coordinates that go from -1 to 1 over an interval."""
    centres = torch.arange(pixels[0], pixels[-1] + 1, device=low.device, dtype=torch.float32) + 0.5
    position = (centres - low) / (high - low) * 2 - 1
    return torch.where(position.isinf(), 0, position)  # of an interval without length
