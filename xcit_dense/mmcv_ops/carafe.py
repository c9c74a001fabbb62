"""CARAFE, content-aware reassembly of features (Wang et al. 2019, section 3.2).

Each output cell is a weighed sum of the K x K input cells around its own. Shapes, with scale s and
G groups of channels:
    features (N, C, H, W), masks (N, G * K * K, s * H, s * W), output (N, C, s * H, s * W).
mmcv passes `kernel_size`, `group_size` and `scale_factor` by name; they arrive here as `sizes`.
The naive form is the same op without the buffers of mmcv's faster kernel.
"""

from collections.abc import Iterator
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

    Of the buffers of mmcv's kernel only `rfeatures` is used: mmcv hands it to the backward in place
    of the features, so it becomes a copy of them.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, **sizes)


def carafe_backward(
    top_grad: Tensor, rfeatures: Tensor, masks: Tensor, *others: Tensor, **sizes: int
) -> None:
    """Gradients of `carafe_forward`; the others are four unused buffers, then what is to fill."""
    carafe_naive_backward(top_grad, rfeatures, masks, *others[4:], **sizes)


def carafe_naive_forward(features: Tensor, masks: Tensor, output: Tensor, **sizes: int) -> None:
    """Reassembles the features."""
    features, masks = to_kernel_precision(features, masks)
    padded = F.pad(features, [sizes["kernel_size"] // 2] * 4)
    total = torch.zeros_like(output, dtype=features.dtype)
    for window, weights, cells in _taps(padded, masks, total, **sizes):
        cells.addcmul_(window, weights)
    output.copy_(total)


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    **sizes: int,
) -> None:
    """Gradients of `carafe_naive_forward` with respect to features (`bottom_grad`) and masks."""
    grad, features, masks = to_kernel_precision(top_grad, features, masks)
    radius = sizes["kernel_size"] // 2
    padded = F.pad(features, [radius] * 4)
    grad_padded = torch.zeros_like(padded)
    taps = _taps(padded, masks, grad, **sizes)
    gradients = _taps(grad_padded, mask_grad, grad, **sizes)
    for (window, weights, cells), (grad_window, grad_weights, _) in zip(
        taps, gradients, strict=True
    ):
        grad_window += (cells * weights).sum(dim=(-3, -1), keepdim=True)
        grad_weights.copy_((cells * window).sum(dim=2, keepdim=True))
    bottom_grad.copy_(F.pad(grad_padded, [-radius] * 4))


def _taps(
    padded: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Views of the input cells, their weights and the output cells, tap by tap of the kernel.

    Args:
        padded: (N, C, H + K - 1, W + K - 1), features with K // 2 more cells on each side.
        masks, output: see the module's shapes.

    Yields:
        (N, G, C / G, H, 1, W, 1), (N, G, 1, H, s, W, s) and (N, G, C / G, H, s, W, s).
    """
    padded = padded.unflatten(1, (group_size, -1))
    weights, cells = (
        tensor.unflatten(3, (-1, scale_factor))
        .unflatten(2, (-1, scale_factor))
        .unflatten(1, (group_size, -1))
        for tensor in (masks, output)
    )
    height, width = cells.shape[3], cells.shape[5]
    for number, (i, j) in enumerate(product(range(kernel_size), repeat=2)):
        window = padded[..., i : i + height, None, j : j + width, None]
        yield window, weights[:, :, number, None], cells
