"""Point-wise spatial attention masks (Zhao et al. 2018, PSANet, section 3.2).

Every cell (h, w) of a map of H x W predicts h_mask x w_mask weights, for the cells around it. The
op puts them at the cells they are meant for: weight (a, b) at cell (h + a - half_h_mask,
w + b - half_w_mask); a cell out of reach gets 0, a weight for no cell is dropped. Shapes:
    input (B, h_mask * w_mask, H, W), output (B, H * W, H, W).
"collect" lays the weights out as output[:, target cell, source cell], "distribute" as
output[:, source cell, target cell].
"""

from collections.abc import Iterator

from torch import Tensor

_COLLECT = 0  # mmcv's code for psa_type='collect'; 1 is 'distribute'


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Puts each cell's weights at the cells they are meant for.

    Args:
        input, output: see the module's shapes.
        psa_type: 0 (collect) or 1 (distribute).
        num_, h_feature, w_feature: B, H and W.
        h_mask, w_mask: numbers of rows and columns of weights.
        half_h_mask, half_w_mask: row and column of the weight that a cell has for itself.
    """
    weights = input.unflatten(1, (h_mask, w_mask))  # (B, a, b, h, w)
    by_row = _place(weights.permute(0, 2, 4, 1, 3), half_h_mask)  # (B, b, w, row, h)
    by_cell = _place(by_row.permute(0, 3, 4, 1, 2), half_w_mask)  # (B, row, h, column, w)
    targets_first = by_cell.transpose(2, 3)
    output.copy_(_in_layout(targets_first, psa_type).reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Gradient of `psamask_forward`: takes each weight's value back from its cell."""
    cells = grad_output.unflatten(1, (h_feature, w_feature))
    by_cell = _in_layout(cells, psa_type).transpose(2, 3)  # (B, row, h, column, w)
    by_row = _take(by_cell, w_mask, half_w_mask)  # (B, row, h, b, w)
    weights = _take(by_row.permute(0, 3, 4, 1, 2), h_mask, half_h_mask)  # (B, b, w, a, h)
    grad_input.copy_(weights.permute(0, 3, 1, 4, 2).flatten(1, 2))


def _in_layout(cells: Tensor, psa_type: int) -> Tensor:
    """Turns (B, row, column, h, w) into the layout of `psa_type`, and back."""
    return cells if psa_type == _COLLECT else cells.permute(0, 3, 4, 1, 2)


def _place(weights: Tensor, half: int) -> Tensor:
    """Puts weights (..., taps, source) along one axis: (..., target, source), 0 out of reach."""
    taps, size = weights.shape[-2:]
    placed = weights.new_zeros(*weights.shape[:-2], size, size)
    for tap, diagonal, sources in _taps_within(taps, size, half):
        placed.diagonal(diagonal, -2, -1).copy_(weights[..., tap, sources])
    return placed


def _take(placed: Tensor, taps: int, half: int) -> Tensor:
    """Takes weights (..., taps, source) from (..., target, source); adjoint of `_place`."""
    size = placed.shape[-1]
    weights = placed.new_zeros(*placed.shape[:-2], taps, size)
    for tap, diagonal, sources in _taps_within(taps, size, half):
        weights[..., tap, sources] = placed.diagonal(diagonal, -2, -1)
    return weights


def _taps_within(taps: int, size: int, half: int) -> Iterator[tuple[int, int, slice]]:
    """The taps that reach a cell: number, diagonal of (target, source), the sources that it has."""
    for tap in range(taps):
        step = tap - half  # from source to target
        if abs(step) < size:
            yield tap, -step, slice(max(-step, 0), size - max(step, 0))
