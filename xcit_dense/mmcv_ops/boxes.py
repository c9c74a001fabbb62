"""Ops on axis-aligned boxes: non-maximum suppression, its soft form, and overlaps.

Boxes are rows (x1, y1, x2, y2) in pixels. `offset` is 0, or 1 for the older convention in which x2
and y2 are the last pixels inside, so that a width is x2 - x1 + 1.
"""

import torch
import torchvision  # noqa: F401  (registers the kernels torch.ops.torchvision.*)
from torch import Tensor

from xcit_dense.mmcv_ops.shared import to_kernel_precision

_IOF = 1  # mmcv's code for "intersection over foreground", the area of the first box
_NAIVE, _GAUSSIAN = 0, 2  # mmcv's codes for the soft-NMS methods; 1 is linear


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes, scores: (N, 4) and (N,).
        iou_threshold: a box is dropped where its overlap with a better one is above this.
        offset: 0 or 1.

    Returns:
        (K,) int64 indices of the boxes kept, best score first.
    """
    boxes, scores = to_kernel_precision(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(boxes, scores, iou_threshold)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy non-maximum suppression that says which boxes each kept one stands for.

    Unlike `nms`, it drops a box whose overlap equals the threshold, as mmcv's kernel does. Boxes
    of equal scores are taken in the order of the input.

    Args:
        dets: (N, 5) rows (x1, y1, x2, y2, score).
        iou_threshold: a box joins the group of a better one from this overlap on.

    Returns:
        The groups, best first: indices of the box kept and of those it suppressed, best first.
    """
    (dets,) = to_kernel_precision(dets)
    boxes = dets[:, :4]
    indices_left = dets[:, 4].argsort(descending=True, stable=True)
    groups: list[list[int]] = []
    while len(indices_left):
        best, others = indices_left[0], indices_left[1:]
        joins = _overlap(boxes[best], boxes[others], offset=0) >= iou_threshold
        groups.append([int(best), *others[joins].tolist()])
        indices_left = others[~joins]
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al. 2017): lowers the scores of overlapping boxes, drops none at once.

    Follows mmcv's CPU kernel: the best box left is taken whatever its score is, and after each
    taking the boxes whose lowered score is below `min_score` are discarded. Of equal scores the one
    that stands first in the input is taken; mmcv's choice depends on its earlier swaps.

    Args:
        boxes, scores: (N, 4) and (N,).
        dets: (N, 5), filled in place: the first K rows become (x1, y1, x2, y2, lowered score), the
            others are left as they are.
        iou_threshold: overlap from which the naive and the linear method lower a score.
        sigma: width of the gaussian method.
        min_score: lowered score under which a box is discarded.
        method: 0 naive (factor 0), 1 linear (factor 1 - overlap), 2 gaussian.
        offset: 0 or 1.

    Returns:
        (K,) int64 indices of the boxes taken, in the order of taking.
    """
    all_boxes, scores = to_kernel_precision(boxes, scores)
    boxes_left, scores_left = all_boxes, scores
    indices_left = torch.arange(len(boxes), device=boxes.device)
    taken_indices: list[int] = []
    taken_scores: list[float] = []
    while len(indices_left):
        best = int(scores_left.argmax())
        taken_indices.append(int(indices_left[best]))
        taken_scores.append(float(scores_left[best]))

        # Two boxes without area overlap by 0 / 0; mmcv's comparisons let those scores stand.
        overlap = _overlap(boxes_left[best], boxes_left, offset).nan_to_num(0.0)
        scores_left = scores_left * _decay(overlap, iou_threshold, sigma, method)
        stays = scores_left >= min_score
        stays[best] = False
        boxes_left, scores_left = boxes_left[stays], scores_left[stays]
        indices_left = indices_left[stays]

    taken = torch.tensor(taken_indices, dtype=torch.long, device=boxes.device)
    dets[: len(taken), :4] = all_boxes[taken].to(dets)
    dets[: len(taken), 4] = dets.new_tensor(taken_scores)
    return taken


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Overlaps of two sets of boxes, by the formula of mmcv's CPU kernel.

    Args:
        bboxes1, bboxes2: (M, 4) and (N, 4).
        ious: (M, N), or (M,) if `aligned`; overwritten.
        mode: 0 for intersection over union, 1 for intersection over the area of `bboxes1`.
        aligned: compare row with row (M == N) instead of all with all.
        offset: 0 or 1.
    """
    first, second = to_kernel_precision(bboxes1, bboxes2)
    if not aligned:
        first = first[:, None]
    ious.copy_(_overlap(first, second, offset, over_first_area=mode == _IOF))


def _decay(overlap: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    """Factors (N,) on the scores, from the overlaps (N,) with the box just taken."""
    if method == _GAUSSIAN:
        return torch.exp(-overlap.square() / sigma)
    lowered = torch.zeros_like(overlap) if method == _NAIVE else 1 - overlap
    return torch.where(overlap >= iou_threshold, lowered, 1.0)


def _overlap(first: Tensor, second: Tensor, offset: int, over_first_area: bool = False) -> Tensor:
    """Overlap of boxes (..., 4) and (..., 4); the leading dimensions broadcast."""
    left, top = (torch.maximum(first[..., i], second[..., i]) for i in (0, 1))
    right, bottom = (torch.minimum(first[..., i], second[..., i]) for i in (2, 3))
    intersection = (right - left + offset).clamp(min=0) * (bottom - top + offset).clamp(min=0)
    if over_first_area:
        return intersection / _area(first, offset)
    return intersection / (_area(first, offset) + _area(second, offset) - intersection)


def _area(boxes: Tensor, offset: int) -> Tensor:
    """Areas (...) of boxes (..., 4) in square pixels."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1 + offset) * (y2 - y1 + offset)
