"""Point-wise spatial attention masks (Zhao et al. 2018, PSANet, section 3.2).

Every cell (h, w) of a map of H x W predicts h_mask x w_mask weights, for the cells around it. The
op puts them at the cells they are meant for: weight (a, b) at cell (h + a - half_h_mask,
w + b - half_w_mask); a cell out of reach gets 0, a weight for no cell is dropped. Shapes:
    input (B, h_mask * w_mask, H, W), output (B, H * W, H, W).
`psa_type` 0, "collect", lays the weights out as output[:, target cell, source cell]; 1,
"distribute", as output[:, source cell, target cell]. mmcv passes it and the sizes by name.
"""

import torch
from torch import Tensor

_COLLECT = 0


def psamask_forward(input: Tensor, output: Tensor, psa_type: int, **sizes: int) -> None:
    """Puts each cell's weights at the cells they are meant for."""
    weights = input.unflatten(1, (sizes["h_mask"], sizes["w_mask"]))
    down, across = _first_targets(weights, sizes)
    targets_first = _shift(weights, input.shape[2:], -down, -across)
    output.copy_(_in_layout(targets_first, psa_type).reshape(output.shape))


def psamask_backward(grad_output: Tensor, grad_input: Tensor, psa_type: int, **sizes: int) -> None:
    """Gradient of `psamask_forward`: takes each weight's value back from its cell."""
    targets_first = _in_layout(grad_output.unflatten(1, grad_input.shape[2:]), psa_type)
    down, across = _first_targets(targets_first, sizes)
    weights = _shift(targets_first, (sizes["h_mask"], sizes["w_mask"]), down, across)
    grad_input.copy_(weights.flatten(1, 2))


def _in_layout(cells: Tensor, psa_type: int) -> Tensor:
    """Turns (B, row, column, h, w) into the layout of `psa_type`, and back."""
    return cells if psa_type == _COLLECT else cells.permute(0, 3, 4, 1, 2)


def _first_targets(maps: Tensor, sizes: dict[str, int]) -> tuple[Tensor, Tensor]:
    """The row (H,) and the column (W,) that each source cell's first weight is for."""
    rows, columns = (torch.arange(size, device=maps.device) for size in maps.shape[3:])
    return rows - sizes["half_h_mask"], columns - sizes["half_w_mask"]


def _shift(maps: Tensor, size: tuple[int, int], down: Tensor, across: Tensor) -> Tensor:
    """Moves the map of each cell by a way of its own.

    Args:
        maps: (B, rows, columns, H, W), a map for each of H x W cells.
        size: rows and columns of the result.
        down, across: (H,) and (W,); entry (i, j) of a result is entry (i + down, j + across) of the
            cell's map, 0 where it has none.
    """
    height, width, *cells = maps.shape[1:]
    i, j, h, w = (torch.arange(count, device=maps.device) for count in (*size, *cells))
    rows = i[:, None, None, None] + down[:, None]
    columns = j[:, None, None] + across
    within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = maps[:, rows.clamp(0, height - 1), columns.clamp(0, width - 1), h[:, None], w]
    return moved.masked_fill_(~within, 0.0)
