"""Multi-scale deformable attention (Zhu et al. 2021, Deformable DETR, section 4.1).

mmcv calls these ops for tensors on a GPU; on a CPU it has a form of its own. Shapes, with B images,
S cells of all levels together, M heads of D channels, Q queries, L levels, P points:
    value (B, S, M, D), sampling_locations (B, Q, M, L, P, 2) as (x, y) in [0, 1] of each level,
    attention_weights (B, Q, M, L, P), value_spatial_shapes (L, 2) as (height, width),
    value_level_start_index (L,), output (B, Q, M * D).
"""

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from xcit_dense.mmcv_ops.shared import gradients_by_recomputing, to_kernel_precision


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sums the sampled values of all levels and points, weighed by the attention: (B, Q, M * D).

    Only one level's samples are in memory at a time. The levels follow one another in `value`, so
    their start index is unused, as in mmcv's form for CPUs; `im2col_step` is unused, too.
    """
    operands = to_kernel_precision(value, sampling_locations, attention_weights)
    output = operands[0].new_zeros(*sampling_locations.shape[:3], value.shape[-1])
    for size, *of_level in _by_level(value_spatial_shapes, *operands):
        output += _attend(*of_level, size)
    return output.flatten(2).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients of `ms_deform_attn_forward`, level by level.

    A point exactly one cell before the map is at a kink of the interpolation; its location gets no
    gradient there, as in mmcv's kernels. Deformable DETR starts from offsets of whole cells.
    """
    *operands, grad = to_kernel_precision(value, sampling_locations, attention_weights, grad_output)
    grad = grad.unflatten(2, value.shape[2:])
    levels = _by_level(value_spatial_shapes, *operands)
    to_fill = _by_level(value_spatial_shapes, grad_value, grad_sampling_loc, grad_attn_weight)
    for (size, *of_level), (_, *wholes) in zip(levels, to_fill, strict=True):
        gradients = gradients_by_recomputing(partial(_attend, size=size), of_level, grad)
        positions = of_level[1] * grad.new_tensor(size).flip(0) - 0.5  # x and y, in cells
        gradients[1].masked_fill_((positions <= -1).any(dim=-1, keepdim=True), 0.0)
        for whole, gradient in zip(wholes, gradients, strict=True):
            whole.copy_(gradient)


def _by_level(
    spatial_shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor
) -> Iterator[tuple]:
    """Views of three tensors, in the module's shapes, of each level; its height and width first."""
    sizes = spatial_shapes.tolist()
    values = value.split([height * width for height, width in sizes], dim=1)
    return zip(sizes, values, locations.unbind(3), weights.unbind(3), strict=True)


def _attend(values: Tensor, points: Tensor, weights: Tensor, size: list[int]) -> Tensor:
    """One level's part (B, Q, M, D) of the output.

    Args:
        values, points, weights: (B, H * W, M, D), (B, Q, M, P, 2) and (B, Q, M, P).
        size: H, W.
    """
    batch, _, heads, _ = values.shape
    maps = values.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, size)
    grid = 2 * points.transpose(1, 2).flatten(0, 1) - 1
    samples = F.grid_sample(maps, grid, align_corners=False)  # zeros around the map
    weighed = samples * weights.transpose(1, 2).flatten(0, 1)[:, None]
    return weighed.sum(-1).unflatten(0, (batch, heads)).permute(0, 3, 1, 2)
