"""Position encoding that exists for any grid size."""

from torch import Tensor, nn

from xcit_dense.ops import fourier_position_grid


class FourierPositionEncoding(nn.Module):
    """Fourier features of the grid, projected to the token width by a 1x1 convolution.

    Source: XCiT paper, section 3.3.

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
        weight = self.projection.weight
        grid = fourier_position_grid(height, width, self.num_frequencies, weight.device)
        return self.projection(grid.to(weight.dtype)[None])
