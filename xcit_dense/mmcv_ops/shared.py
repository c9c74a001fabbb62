"""What several served ops share: their precision, bilinear samples, gradients by autograd."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def to_kernel_precision(reference: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Casts all tensors to one dtype: float64 if `reference` has it, else float32.

    torchvision's kernels want all operands of one dtype, have no bfloat16 form, and some have no
    float16 form on a CPU. Tensors that have the dtype already are not copied.
    """
    dtype = torch.float64 if reference.dtype == torch.float64 else torch.float32
    return tuple(tensor.to(dtype) for tensor in (reference, *others))


def bilinear_samples(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolates maps between their cells, by the rule of mmcv's RoI ops.

    Within one cell around the map its border is continued; farther out the value is 0. The
    gradient with respect to the positions is the true one of this function: mmcv's kernels
    extrapolate in the cell around the map, and give 0 along its last row and column.

    Args:
        maps: (N, C, H, W), float32 or float64.
        y: (N, ...) rows, in cells; cell i has its centre at i.
        x: (N, ...) columns, shape of `y`.

    Returns:
        (N, C, ...).
    """
    height, width = maps.shape[-2:]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    values = F.grid_sample(
        maps, grid.flatten(1, -2)[:, None], padding_mode="border", align_corners=False
    )
    near = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    return values.unflatten(-1, y.shape[1:]).squeeze(2) * near[:, None]


def gradients_by_recomputing(
    function: Callable[..., Tensor], operands: tuple[Tensor, ...], grad_output: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of `function(*operands)`, computed once more under autograd.

    For backward ops, which mmcv calls with gradients turned off.

    Args:
        function: any differentiable function of the operands.
        operands: floating-point tensors.
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


def gradient_of_samples(grad: Tensor, y: Tensor, x: Tensor, size: torch.Size) -> Tensor:
    """Gradient of maps (N, H, W) whose `bilinear_samples` were taken at positions of their own.

    Args:
        grad: (N, ...), of the samples.
        y, x: shape of `grad`, in cells.
        size: H, W.
    """
    # Samples are linear in the map: its values do not matter.
    maps = grad.new_zeros(len(grad), 1, *size)
    (grad_maps,) = gradients_by_recomputing(
        lambda maps: bilinear_samples(maps, y, x), (maps,), grad[:, None]
    )
    return grad_maps.squeeze(1)
