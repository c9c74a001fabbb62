"""Where the engine takes pixels from, and where it keeps tokens: rows at a time, from anywhere."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Source(Protocol):
    """An image of any size that gives its rows; height and width are in pixels."""

    height: int
    width: int

    def read(self, first: int, last: int) -> Tensor:
        """The rows ``first`` to ``last``, without the last: (in_channels, rows, width)."""


class TensorSource:
    """An image that is a tensor.

    Args:
        image: (in_channels, H, W).
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.height, self.width = image.shape[-2:]

    def read(self, first: int, last: int) -> Tensor:
        """See :class:`Source`."""
        return self.image[:, first:last]


def read_padded(source: Source, first: int, last: int, multiple: int) -> Tensor:
    """Rows of an image whose sides are padded with zeros to multiples: (1, C, rows, width)."""
    rows = source.read(first, min(last, source.height))[None]
    right, bottom = -source.width % multiple, max(last - source.height, 0)
    return F.pad(rows, (0, right, 0, bottom)) if right or bottom else rows


class TokenStore:
    """The tokens of an image in memory; a subclass may keep them elsewhere.

    Args:
        height: rows of the grid.
        width: columns of the grid.
        channels: C.
        dtype: of the tokens.
        device: where they lie.
    """

    def __init__(
        self, height: int, width: int, channels: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.height, self.width = height, width
        self.tokens = torch.empty(height * width, channels, dtype=dtype, device=device)

    def read(self, first: int, last: int) -> Tensor:
        """The tokens of the rows ``first`` to ``last``, without the last: (rows * width, C)."""
        return self.tokens[first * self.width : last * self.width]

    def place(self, first: int, last: int, device: torch.device) -> Tensor:
        """Memory of a device to make these rows' new tokens in, before they are written."""
        rows = self.read(first, last)
        return rows if rows.device == device else torch.empty_like(rows, device=device)

    def write(self, first: int, tokens: Tensor) -> None:
        """Put tokens (rows * width, C) into the rows from ``first`` on."""
        rows = self.read(first, first + len(tokens) // self.width)
        if rows.data_ptr() != tokens.data_ptr():  # they were not made here
            rows.copy_(tokens)
