"""Position encoding that exists for any grid size."""

from torch import Tensor, nn

from xcit_dense.ops import fourier_position_codes, is_recorded


class FourierPositionEncoding(nn.Module):
    """Fourier features of the grid, projected to the token width by a 1x1 convolution.

    The features of a place are those of its row and those of its column; so the projection is
    computed for the rows and the columns alone. In eval mode that is done once for a size.
    Source: XCiT paper, section 3.3.

    Args:
        embed_dims: width C of a token.
        num_frequencies: Fourier features for each of the two axes.
    """

    def __init__(self, embed_dims: int, num_frequencies: int = 32) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.projection = nn.Conv2d(2 * num_frequencies, embed_dims, 1)
        self._last: tuple[tuple, tuple[Tensor, Tensor]] | None = None

    def forward(self, height: int, width: int) -> Tensor:
        """Return the encoding of a ``height`` x ``width`` grid, (1, C, height, width)."""
        rows, columns = self._projected(height, width)
        return (rows[:, None] + columns).permute(2, 0, 1)[None]

    def _projected(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What the rows (height, C) and the columns (width, C) contribute."""
        weight, bias = self.projection.weight, self.projection.bias
        if self.training or is_recorded():
            return self._project(height, width)
        state = (height, width, *((t.data_ptr(), t._version, t.dtype) for t in (weight, bias)))
        if self._last is None or self._last[0] != state:
            self._last = state, self._project(height, width)
        return self._last[1]

    def _project(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        weight, bias = self.projection.weight[:, :, 0, 0], self.projection.bias
        of_rows, of_columns = weight.split(self.num_frequencies, dim=1)
        rows, columns = (
            fourier_position_codes(length, self.num_frequencies, weight.device).to(weight.dtype)
            for length in (height, width)
        )
        return rows @ of_rows.T, columns @ of_columns.T + bias
