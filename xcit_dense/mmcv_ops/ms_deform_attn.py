"""Multi-scale deformable attention (Zhu et al. 2021, Deformable DETR, section 4.1).

mmcv calls these ops for tensors on a GPU; on a CPU it has a form of its own. Shapes, with B images,
S cells of all levels together, M heads of D channels, Q queries, L levels, P points:
    value (B, S, M, D), sampling_locations (B, Q, M, L, P, 2) as (x, y) in [0, 1] of each level,
    attention_weights (B, Q, M, L, P), value_spatial_shapes (L, 2) as (height, width),
    value_level_start_index (L,), output (B, Q, M * D).
"""

from collections.abc import Iterator

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
    """Sums the sampled values of all levels and points, weighed by the attention.

    Only one level's samples are in memory at a time. `im2col_step` is unused: the images are not
    taken in portions.

    Returns:
        (B, Q, M * D), dtype of `value`.
    """
    values, locations, weights = to_kernel_precision(value, sampling_locations, attention_weights)
    output = values.new_zeros(*locations.shape[:3], values.shape[-1])
    for level, cells, size in _levels(value_spatial_shapes, value_level_start_index):
        points, attention = locations[:, :, :, level], weights[:, :, :, level]
        output += _attend(values[:, cells], points, attention, size)
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
    values, locations, weights, grad = to_kernel_precision(
        value, sampling_locations, attention_weights, grad_output
    )
    grad = grad.unflatten(2, values.shape[2:])
    for level, cells, size in _levels(value_spatial_shapes, value_level_start_index):
        points, attention = locations[:, :, :, level], weights[:, :, :, level]
        grad_cells, grad_points, grad_attention = gradients_by_recomputing(
            lambda *operands, size=size: _attend(*operands, size),
            (values[:, cells], points, attention),
            grad,
        )
        positions = points * points.new_tensor(size).flip(0) - 0.5  # x and y, in cells
        before_map = (positions <= -1).any(dim=-1, keepdim=True)
        grad_value[:, cells] = grad_cells.to(grad_value)
        grad_sampling_loc[:, :, :, level] = grad_points.masked_fill(before_map, 0.0).to(
            grad_sampling_loc
        )
        grad_attn_weight[:, :, :, level] = grad_attention.to(grad_attn_weight)


def _levels(
    spatial_shapes: Tensor, start_index: Tensor
) -> Iterator[tuple[int, slice, tuple[int, int]]]:
    """Each level's number, its cells in `value`, and its height and width in cells."""
    starts = start_index.tolist()
    for level, (height, width) in enumerate(spatial_shapes.tolist()):
        yield level, slice(starts[level], starts[level] + height * width), (height, width)


def _attend(values: Tensor, points: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
    """One level's part of the output.

    Args:
        values: (B, H * W, M, D).
        points: (B, Q, M, P, 2).
        weights: (B, Q, M, P).
        size: H, W.

    Returns:
        (B, Q, M, D).
    """
    batch, _, heads, _ = values.shape
    maps = values.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, size)
    grid = 2 * points.transpose(1, 2).flatten(0, 1) - 1
    samples = F.grid_sample(maps, grid, align_corners=False)  # zeros around the map
    weighed = samples * weights.transpose(1, 2).flatten(0, 1)[:, None]
    return weighed.sum(-1).unflatten(0, (batch, heads)).permute(0, 3, 1, 2)
