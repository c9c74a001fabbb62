"""Working through tokens in pieces that stay in a cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from xcit_dense.ops.recording import is_recorded, is_traced

# Elements of the widest tensor of a piece. On a CPU 6 MB in float32: it stays in the cache, and
# the allocator hands the same memory out again. On a GPU enough to fill it.
_CPU_ELEMENTS = 1_600_000
_GPU_ELEMENTS = 64_000_000


def rows_per_chunk(width: int, device: torch.device) -> int:
    """How many rows make a piece, if the widest tensor has ``width`` elements a row."""
    return max(1, (_CPU_ELEMENTS if device.type == "cpu" else _GPU_ELEMENTS) // width)


def first_chunk(tokens: Tensor, widest: int) -> Tensor:
    """The first of the pieces that :func:`map_in_chunks` makes."""
    return tokens.reshape(-1, tokens.shape[-1])[: rows_per_chunk(widest, tokens.device)]


def map_in_chunks(
    function: Callable[[Tensor], Tensor],
    tokens: Tensor,
    widest: int,
    out: Tensor | None = None,
    whole: bool = False,
) -> Tensor:
    """Apply a function of single tokens to all of them, piece by piece where that saves memory.

    With gradients, or in a compiled graph, all tokens are one piece.

    Args:
        function: maps (..., C) to (..., C), each token by itself.
        tokens: (B, N, C).
        widest: channels of the widest tensor inside ``function``.
        out: where the result may be put, ``tokens`` itself for one; without gradients only.
        whole: take all tokens as one piece anyway.

    Returns:
        (B, N, C), in the type of ``tokens`` if there are pieces.
    """
    if whole or is_recorded():
        return function(tokens)
    if out is None:
        out = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    sources, targets = tokens.reshape(-1, tokens.shape[-1]), out.view(-1, out.shape[-1])
    size = rows_per_chunk(widest, tokens.device)
    for source, target in zip(sources.split(size), targets.split(size), strict=True):
        target.copy_(function(source))
    return out


def map_in_bands(
    function: Callable[[Tensor], Tensor],
    tokens: Tensor,
    width: int,
    reach: int,
    out: Tensor | None = None,
    whole: bool = False,
) -> Tensor:
    """Apply a function of neighbourhoods to a grid of tokens, a band of rows at a time.

    With gradients, or in a compiled graph, all rows are one band.

    Args:
        function: maps (B, h * width, C) to (B, h * width, C); where it looks over the border of
            what it is given it sees zeros.
        tokens: (B, H * width, C).
        width: columns of the grid.
        reach: rows that ``function`` looks up and down.
        out: where the result may be put, but not ``tokens``; without gradients only.
        whole: take all rows as one band anyway.

    Returns:
        (B, H * width, C), in the type of ``tokens`` if there are bands.
    """
    if whole or is_recorded():
        return function(tokens)
    batch, count, channels = tokens.shape
    size = max(8 * reach, rows_per_chunk(width * channels, tokens.device)) * width
    if batch * count <= size:
        return function(tokens)
    if out is None:
        out = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    for image, target in zip(tokens.split(1), out.split(1), strict=True):
        for start in range(0, count, size):
            stop = min(start + size, count)
            first, last = max(start - reach * width, 0), min(stop + reach * width, count)
            band = function(image[:, first:last])
            target[:, start:stop] = band[:, start - first : stop - first]
    return out


def downscale_in_bands(
    function: Callable[[Tensor], Tensor], image: Tensor, scale: int, elements_per_row: int
) -> Tensor:
    """Apply a stack of 3x3 stride-2 convolutions to an image, a band of rows at a time.

    Args:
        function: maps (1, C_in, h, W) to (1, C_out, h / scale, W / scale), for every h that
            ``scale`` divides. A row of the result may depend on rows of the image up to ``scale``
            above its own, and none below.
        image: (B, C_in, H, W), H a multiple of ``scale``.
        scale: of the resolution.
        elements_per_row: of the widest tensor inside ``function``, for each row of the image.

    Returns:
        (B, C_out, H / scale, W / scale), in channels-last.
    """
    batch, _, height, _ = image.shape
    size = max(8 * scale, rows_per_chunk(elements_per_row, image.device) // scale * scale)
    if is_traced() or batch * height <= size:
        return function(image)
    out = None
    for index in range(batch):
        for start in range(0, height, size):
            stop, first = min(start + size, height), max(start - scale, 0)
            band = function(image[index : index + 1, :, first:stop])
            if out is None:
                shape = batch, band.shape[1], height // scale, band.shape[3]
                out = band.new_empty(shape).contiguous(memory_format=torch.channels_last)
            inner = band[0, :, (start - first) // scale :]
            out[index, :, start // scale : stop // scale] = inner
    return out
