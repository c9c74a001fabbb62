"""Focal losses (Lin et al. 2017), by the formulas of mmcv's CUDA kernels, on any device.

N rows have C scores each. `target` (N,) is a class index a row; one outside [0, C) means
background. `weight` is (C,) or empty, and multiplies a row by the weight of its target. Background
has no entry there and keeps weight 1 (mmcv's kernels read beyond the table instead). `gamma` is the
exponent on the distance from the right answer. A target above C is a ValueError.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.mmcv_ops.shared import to_kernel_precision

_SMALLEST = torch.finfo(torch.float32).tiny  # mmcv never takes the logarithm of less


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of C independent binary classifications.

    Args:
        input, output: (N, C), logits and losses.
        target, weight, gamma: see the module.
        alpha: factor of the positive class; the negatives get 1 - alpha.
    """
    _check_target(target, input.shape[1])
    logits, weight = to_kernel_precision(input, weight)
    log_p, log_not_p = _log_sigmoid(logits), _log_sigmoid(-logits)
    if_positive = -alpha * torch.sigmoid(-logits).pow(gamma) * log_p
    if_negative = -(1 - alpha) * torch.sigmoid(logits).pow(gamma) * log_not_p
    loss = torch.where(_is_target(logits, target), if_positive, if_negative)
    output.copy_(loss * _row_weight(target, weight)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of each loss of `sigmoid_focal_loss_forward` with respect to its logit."""
    logits, weight = to_kernel_precision(input, weight)
    p, not_p = torch.sigmoid(logits), torch.sigmoid(-logits)
    log_p, log_not_p = _log_sigmoid(logits), _log_sigmoid(-logits)
    if_positive = -alpha * not_p.pow(gamma) * (not_p - gamma * p * log_p)
    if_negative = -(1 - alpha) * p.pow(gamma) * (gamma * not_p * log_not_p - p)
    slope = torch.where(_is_target(logits, target), if_positive, if_negative)
    grad_input.copy_(slope * _row_weight(target, weight)[:, None])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of one classification among C; background rows lose nothing.

    Args:
        input: (N, C) probabilities (mmcv's Python side takes the softmax).
        target, weight, gamma: see the module.
        output: (N,).
        alpha: factor on all.
    """
    _check_target(target, input.shape[1])
    probability, weight = to_kernel_precision(input, weight)
    is_target = _is_target(probability, target)
    p = probability.where(is_target, 0.0).sum(dim=1)
    loss = -alpha * (1 - p).pow(gamma) * p.clamp(min=_SMALLEST).log()
    output.copy_(loss * is_target.any(dim=1) * _row_weight(target, weight))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of each loss of `softmax_focal_loss_forward` with respect to the row's C logits.

    Args:
        buff: (N,), overwritten: the derivative with respect to the logarithm of the target's
            probability.
        input and the rest: as in the forward.
    """
    probability, weight = to_kernel_precision(input, weight)
    is_target = _is_target(probability, target)
    p = probability.where(is_target, 0.0).sum(dim=1)
    not_p = (1 - p).clamp(min=_SMALLEST)  # a power below 0 of 0 would be infinite
    log_p = p.clamp(min=_SMALLEST).log()
    slope = alpha * (gamma * not_p.pow(gamma - 1) * p * log_p - not_p.pow(gamma))
    slope = slope * is_target.any(dim=1) * _row_weight(target, weight)
    buff.copy_(slope)
    grad_input.copy_(slope[:, None] * (is_target.to(slope) - probability))


def _check_target(target: Tensor, classes: int) -> None:
    if target.numel() and int(target.max()) > classes:
        raise ValueError(
            f"focal loss targets must be class indices below {classes}, or {classes} for "
            f"background; the largest is {int(target.max())}."
        )


def _log_sigmoid(logits: Tensor) -> Tensor:
    """Logarithm of the sigmoid, bounded below as in mmcv."""
    return F.logsigmoid(logits).clamp(min=math.log(_SMALLEST))


def _is_target(rows: Tensor, target: Tensor) -> Tensor:
    """Marks (N, C) the target's class in each row; a background row has none."""
    return target[:, None] == torch.arange(rows.shape[1], device=rows.device)


def _row_weight(target: Tensor, weight: Tensor) -> Tensor:
    """Weights (N,) of the rows' targets; 1 for background and where `weight` is empty."""
    if weight.numel() == 0:
        return weight.new_ones(len(target))
    is_class = (target >= 0) & (target < len(weight))
    return torch.where(is_class, weight[target.clamp(0, len(weight) - 1)], 1.0)
