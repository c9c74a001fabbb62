"""BorderAlign (Qiu et al. 2020, BorderDet, section 3.2): the largest sample on each side of a box.

Shapes, with K boxes an image: input (B, 4 * C, H, W), whose channels belong to the top, left,
bottom and right side, in this order; boxes (B, K, 4) rows (x1, y1, x2, y2) in cells; output
(B, C, K, 4), sides last.
"""

import torch
from torch import Tensor

from xcit_dense.mmcv_ops.shared import (
    bilinear_samples,
    gradient_of_samples,
    to_kernel_precision,
)

_SIDES = 4
# Where the top, left, bottom and right side begin and end: their y and x, as columns of a box.
_STARTS = [[1, 1, 3, 3], [0, 0, 2, 2]]
_ENDS = [[1, 3, 3, 1], [2, 0, 0, 2]]


def border_align_forward(
    input: Tensor, boxes: Tensor, output: Tensor, argmax_idx: Tensor, pool_size: int
) -> None:
    """Takes `pool_size` + 1 samples on each side, corners included, and the largest of them.

    Args:
        input, boxes, output: see the module's shapes.
        argmax_idx: int32, shape of `output`: number of the largest sample, the first
            of equal ones. Top and left count from (x1, y1), bottom and right from (x2, y2).
        pool_size: number of equal parts of a side.
    """
    features, boxes = to_kernel_precision(input, boxes)
    maps = features.unflatten(1, (_SIDES, -1)).flatten(0, 1)  # (B * 4, C, H, W)
    maximum = maps.new_full((*maps.shape[:2], boxes.shape[1]), -torch.inf)
    best = torch.zeros_like(maximum, dtype=torch.int)
    start, travel = _sides(boxes)
    for number in range(pool_size + 1):
        y, x = (start + travel * (number / pool_size)).flatten(1, 2)
        values = bilinear_samples(maps, y, x)
        better = values > maximum
        maximum = torch.where(better, values, maximum)
        best.masked_fill_(better, number)

    def sides_last(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (-1, _SIDES)).permute(0, 2, 3, 1)

    output.copy_(sides_last(maximum))
    argmax_idx.copy_(sides_last(best))


def border_align_backward(
    grad_output: Tensor, boxes: Tensor, argmax_idx: Tensor, grad_input: Tensor, pool_size: int
) -> None:
    """Gradient of `border_align_forward` with respect to its input; the argmax as filled there."""
    grad, boxes = to_kernel_precision(grad_output, boxes)
    number = argmax_idx.to(boxes.dtype)
    grad, number = (tensor.permute(0, 3, 1, 2) for tensor in (grad, number))  # (B, 4, C, K)
    start, travel = (tensor.unsqueeze(3) for tensor in _sides(boxes))
    y, x = (start + travel * (number / pool_size)).flatten(1, 3)

    # Each channel is sampled elsewhere, so it is taken as a map of its own.
    grad_maps = gradient_of_samples(grad.flatten(0, 2), y, x, grad_input.shape[2:])
    grad_input.copy_(grad_maps.view(grad_input.shape))


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Where each side of boxes (B, K, 4) begins and how far it goes: (2, B, 4, K), y before x."""
    columns = boxes.permute(2, 0, 1)
    start, end = (columns[corner, ...].transpose(1, 2) for corner in (_STARTS, _ENDS))
    return start, end - start
