"""Bilinear values of feature maps, by the rule of mmcv's RoI ops."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolates maps between their cells.

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
