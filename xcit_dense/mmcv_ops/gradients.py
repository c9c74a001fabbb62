"""Gradients by computing the forward once more under autograd.

mmcv's autograd functions call a backward op of their own, with gradients turned off.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def gradients_by_recomputing(
    function: Callable[..., Tensor], operands: tuple[Tensor, ...], grad_output: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of `function(*operands)` with respect to each of its operands.

    Args:
        function: any differentiable function of the operands.
        operands: floating-point tensors; left as they are.
        grad_output: shape of the function's result.

    Returns:
        One gradient per operand, in its shape; 0 where the function does not use it.
    """
    with torch.enable_grad():
        leaves = [operand.detach().requires_grad_() for operand in operands]
        output = function(*leaves)
    if not output.requires_grad:
        return tuple(torch.zeros_like(operand) for operand in operands)
    return torch.autograd.grad(output, leaves, grad_output, materialize_grads=True)
