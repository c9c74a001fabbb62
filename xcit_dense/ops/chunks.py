"""Working through tokens in pieces that stay in a cache."""

from collections.abc import Callable

import torch
from torch import Tensor

# Elements of the widest tensor of a piece. On a CPU 6 MB in float32: it stays in the cache, and
# the allocator hands the same memory out again. On a GPU enough to fill it.
_CPU_ELEMENTS = 1_600_000
_GPU_ELEMENTS = 64_000_000


def rows_per_chunk(width: int, device: torch.device) -> int:
    """How many rows make a piece, if the widest tensor has ``width`` elements a row."""
    return max(1, (_CPU_ELEMENTS if device.type == "cpu" else _GPU_ELEMENTS) // width)


def map_in_chunks(
    function: Callable[[Tensor], Tensor], tokens: Tensor, width: int, out: Tensor | None = None
) -> Tensor:
    """Apply a function of single tokens to all of them, piece by piece where that saves memory.

    With gradients, or in a compiled graph, all tokens are one piece.

    Args:
        function: maps (..., C) to (..., C), each token by itself.
        tokens: (..., C).
        width: channels of the widest tensor inside ``function``.
        out: where the result is put, if given; without gradients only.

    Returns:
        (..., C), in the type of ``tokens`` if there are pieces.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(tokens)
    if out is None:
        out = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    sources, targets = tokens.reshape(-1, tokens.shape[-1]), out.view(-1, out.shape[-1])
    size = rows_per_chunk(width, tokens.device)
    for source, target in zip(sources.split(size), targets.split(size), strict=True):
        target.copy_(function(source))
    return out


def map_in_bands(
    function: Callable[[Tensor], Tensor],
    feature_map: Tensor,
    elements_per_row: int,
    *,
    multiple: int = 1,
    above: int = 0,
    below: int = 0,
) -> Tensor:
    """Apply a function of neighbourhoods to a map, a band of rows at a time if the map is large.

    With gradients, or in a compiled graph, all rows are one band.

    Args:
        function: maps (B, C_in, h, W_in) to (B, C_out, h * s, W_out), for any h that ``multiple``
            divides, with the same s; pads with zeros where it looks over the border.
        feature_map: (B, C_in, H, W_in).
        elements_per_row: of the widest tensor inside ``function``, for each row of the map.
        multiple: divides H, and so the rows of every band.
        above: how many rows further up than its own a row of the result depends on; a number that
            ``multiple`` divides.
        below: how many rows further down.

    Returns:
        (B, C_out, H * s, W_out).
    """
    batch, _, height, _ = feature_map.shape
    rows = rows_per_chunk(elements_per_row, feature_map.device)
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if whole or batch * height <= rows:
        return function(feature_map)
    rows = max(rows, 4 * (above + below), multiple) // multiple * multiple
    out = None
    for index in range(batch):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(top - above, 0), min(bottom + below, height)
            band = function(feature_map[index : index + 1, :, first:last])
            numerator, denominator = band.shape[2], last - first
            if out is None:
                shape = batch, band.shape[1], height * numerator // denominator, band.shape[3]
                out = torch.empty(
                    shape,
                    dtype=band.dtype,
                    device=band.device,
                    memory_format=torch.channels_last,
                )
            start, stop, skip = (
                row * numerator // denominator for row in (top, bottom, top - first)
            )
            out[index, :, start:stop] = band[0, :, skip : skip + stop - start]
    return out
