"""Position encoding that exists for any grid size."""

import math

import torch
from torch import Tensor, nn

MAX_WAVELENGTH = 10_000.0


class FourierPositionEncoding(nn.Module):
    """Fourier features of the grid, projected to the token width by a 1x1 convolution.

    Source: XCiT paper, section 3.3; the frequencies are those of "Attention is all you need",
    section 3.5.

    Args:
        embed_dims: width C of a token.
        num_frequencies: Fourier features for each of the two axes.
    """

    def __init__(self, embed_dims: int, num_frequencies: int = 32) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.projection = nn.Conv2d(2 * num_frequencies, embed_dims, 1)

    def forward(self, height: int, width: int) -> Tensor:
        """Return the encoding of a ``height`` x ``width`` grid, (1, C, height, width)."""
        weight = next(self.parameters())
        rows, columns = (
            fourier_position_codes(length, self.num_frequencies, weight.device).to(weight.dtype)
            for length in (height, width)
        )
        grid = [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)]
        return self.projection(torch.cat(grid, dim=-1).permute(2, 0, 1)[None])


def fourier_position_codes(
    length: int, num_frequencies: int = 32, device: torch.device | str | None = None
) -> Tensor:
    """Describe each place of an axis by sines and cosines.

    Places are counted from 1 and scaled so that the last one is at 2 pi: the code is relative to
    the image's size and exists for any size.

    Args:
        length: places on the axis.
        num_frequencies: features, an even number: half sines, half cosines.
        device: where the codes are made.

    Returns:
        (length, num_frequencies) in float32, sines and cosines interleaved.
    """
    pairs = torch.arange(num_frequencies // 2, device=device, dtype=torch.float32)
    wavelengths = MAX_WAVELENGTH ** (2 * pairs / num_frequencies)
    places = torch.arange(1, length + 1, device=device, dtype=torch.float32)
    angles = (places / (length + 1e-6) * (2 * math.pi))[:, None] / wavelengths
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
