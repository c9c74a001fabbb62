"""Fourier features of a token grid, the basis of XCiT's position encoding."""

import math

import torch
from torch import Tensor

MAX_WAVELENGTH = 10_000.0


def fourier_position_grid(
    height: int,
    width: int,
    num_frequencies: int = 32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Describe each place of a grid by sines and cosines of its row and its column.

    Rows and columns are counted from 1 and scaled so that the last one is at 2 pi: the code is
    relative to the image's size and exists for any size (XCiT paper, section 3.3; the frequencies
    are those of "Attention is all you need", section 3.5).

    Args:
        height: rows of the grid.
        width: columns of the grid.
        num_frequencies: features for each axis, an even number: half sines, half cosines.
        device: where the grid is made.

    Returns:
        (2 * num_frequencies, height, width) in float32: the features of the row, then those of
        the column, sines and cosines interleaved.
    """
    pairs = torch.arange(num_frequencies // 2, device=device, dtype=torch.float32)
    wavelengths = MAX_WAVELENGTH ** (2 * pairs / num_frequencies)

    def axis_features(length: int) -> Tensor:
        places = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        angles = places / (length + 1e-6) * (2 * math.pi) / wavelengths[:, None]
        return torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1)

    rows = axis_features(height)[:, :, None].expand(-1, -1, width)
    columns = axis_features(width)[:, None, :].expand(-1, height, -1)
    return torch.cat([rows, columns])
