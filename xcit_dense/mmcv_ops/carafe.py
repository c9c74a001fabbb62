"""CARAFE, content-aware reassembly of features (Wang et al. 2019, section 3.2).

Each output cell is a weighed sum of the K x K input cells around its own. Shapes, with scale s and
G groups of channels:
    features (N, C, H, W), masks (N, G * K * K, s * H, s * W), output (N, C, s * H, s * W).
The naive form is the same op without the buffers of mmcv's faster kernel.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.mmcv_ops.shared import to_kernel_precision


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **sizes: int,
) -> None:
    """Reassembles the features.

    Args:
        features, masks, output and the sizes: as in `carafe_naive_forward`.
        rfeatures: becomes a copy of `features`; mmcv hands it to the backward.
        routput, rmasks: unused, buffers of mmcv's kernel.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, **sizes)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    **sizes: int,
) -> None:
    """Gradients of `carafe_forward`; of the buffers only `rfeatures` is used, as filled there."""
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, **sizes)


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Reassembles the features.

    Args:
        features, masks, output: see the module's shapes.
        kernel_size: K.
        group_size: G, the number of groups.
        scale_factor: s.
    """
    cells, kernels = to_kernel_precision(features, masks)
    height, width = cells.shape[-2:]
    padded = _padded_groups(cells, kernel_size, group_size)
    kernels = _split_kernels(kernels, kernel_size, group_size, scale_factor)
    total = padded.new_zeros(*padded.shape[:3], height, scale_factor, width, scale_factor)
    for i, j in product(range(kernel_size), repeat=2):
        total.addcmul_(_window(padded, i, j, height, width), kernels[:, :, None, i, j])
    output.copy_(total.view(output.shape))


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of `carafe_naive_forward` with respect to features (`bottom_grad`) and masks."""
    grad, cells, kernels = to_kernel_precision(top_grad, features, masks)
    height, width = cells.shape[-2:]
    padded = _padded_groups(cells, kernel_size, group_size)
    kernels = _split_kernels(kernels, kernel_size, group_size, scale_factor)
    grad = _split_cells(grad, scale_factor).unflatten(1, (group_size, -1))

    grad_padded, grad_kernels = torch.zeros_like(padded), torch.empty_like(kernels)
    for i, j in product(range(kernel_size), repeat=2):
        grad_window = grad_padded[..., i : i + height, j : j + width]
        grad_window += (grad * kernels[:, :, None, i, j]).sum(dim=(-3, -1))
        grad_kernels[:, :, i, j] = (grad * _window(padded, i, j, height, width)).sum(dim=2)

    radius = kernel_size // 2
    inside = grad_padded[..., radius : radius + height, radius : radius + width]
    bottom_grad.copy_(inside.flatten(1, 2))
    mask_grad.copy_(grad_kernels.reshape(mask_grad.shape))


def _padded_groups(features: Tensor, kernel_size: int, groups: int) -> Tensor:
    """Divides channels into groups: (N, G, C / G, H + K - 1, W + K - 1), zeros around the map."""
    return F.pad(features.unflatten(1, (groups, -1)), [kernel_size // 2] * 4)


def _split_kernels(masks: Tensor, kernel_size: int, groups: int, scale: int) -> Tensor:
    """Divides masks into (N, G, K, K, H, s, W, s)."""
    return _split_cells(masks, scale).unflatten(1, (groups, kernel_size, kernel_size))


def _split_cells(tensor: Tensor, scale: int) -> Tensor:
    """Divides (N, C, s * H, s * W) into (N, C, H, s, W, s)."""
    return tensor.unflatten(-1, (-1, scale)).unflatten(-3, (-1, scale))


def _window(padded: Tensor, i: int, j: int, height: int, width: int) -> Tensor:
    """The input cell at tap (i, j) of each output cell: (N, G, C / G, H, 1, W, 1)."""
    return padded[..., i : i + height, None, j : j + width, None]
