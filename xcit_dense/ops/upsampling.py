"""Transposed convolutions that do not overlap, as linear layers."""

from collections.abc import Callable

from torch import Tensor

from xcit_dense.ops.chunks import rows_per_chunk
from xcit_dense.ops.recording import is_recorded
from xcit_dense.ops.spatial import map_to_tokens


def children_weights(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A 2x2 stride-2 transposed convolution as a linear layer from a token to its four children.

    Args:
        weight: (C_in, C_out, 2, 2).
        bias: (C_out,).

    Returns:
        Weight (4 * C_out, C_in) and bias (4 * C_out,): the children in row-major order.
    """
    return weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4)


def upsample(
    feature_map: Tensor,
    children: Callable[[Tensor], Tensor],
    generations: int,
    whole: bool = False,
) -> Tensor:
    """Put the children of every token in its place, and theirs in theirs.

    Args:
        feature_map: (B, C, H, W).
        children: maps tokens (B, N, C) to (B, N, 4 ** generations * C), each token by itself: its
            children in row-major order, each followed by its own.
        generations: how often the resolution doubles.
        whole: give all tokens to ``children`` at once, also where pieces would save memory.

    Returns:
        (B, C, H * 2 ** generations, W * 2 ** generations), in channels-last.
    """
    batch, channels, height, width = feature_map.shape
    halves = [2] * generations
    family = (batch, height, width, *halves * 2, channels)  # row, column, row, column, ...
    # to (batch, height, rows of all generations, width, columns of all generations, channels)
    rows, columns = range(3, 3 + 2 * generations, 2), range(4, 4 + 2 * generations, 2)
    order = (0, 1, *rows, 2, *columns, 3 + 2 * generations)

    if whole or is_recorded():
        arranged = children(map_to_tokens(feature_map)).view(family).permute(order)
    else:
        arranged = None
        size = rows_per_chunk(4**generations * channels * width, feature_map.device)
        for image in range(batch):
            for top in range(0, height, size):
                band = feature_map[image : image + 1, :, top : top + size]
                found = children(map_to_tokens(band)).view(1, -1, *family[2:])
                if arranged is None:
                    arranged = found.new_empty([family[axis] for axis in order])
                    places = arranged.permute(*(order.index(axis) for axis in range(len(order))))
                places[image : image + 1, top : top + size] = found
    scale = 2**generations
    return arranged.reshape(batch, height * scale, width * scale, channels).permute(0, 3, 1, 2)
