"""Where the engine takes pixels from, and where it keeps tokens: rows at a time, from anywhere."""

import tempfile
from os import PathLike
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Source(Protocol):
    """An image of any size that gives its rows; height and width are in pixels.

    It may also have a method ``valid(first, last)``, which is asked after ``read`` for the same
    rows: bool (rows, width), False where there is no data; None: all are. Patches without data are
    no context of others.
    """

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

    Attributes:
        seen: bool (height, width) on the CPU, which ones attention sees; None: all.
    """

    def __init__(
        self, height: int, width: int, channels: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.height, self.width, self.channels, self.dtype = height, width, channels, dtype
        self.seen: Tensor | None = None
        self._allocate(device)

    def _allocate(self, device: torch.device | str) -> None:
        shape = (self.height * self.width, self.channels)
        self.tokens = torch.empty(shape, dtype=self.dtype, device=device)

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

    def copy_to(self, other: "TokenStore", rows: int) -> None:
        """Copy all tokens to a store of the same size, so many rows at a time."""
        for first in range(0, self.height, rows):
            other.write(first, self.read(first, min(first + rows, self.height)))


class FileTokenStore(TokenStore):
    """The tokens of an image in a file without a name, which ends with the process.

    It is read and written, not mapped: pages of a mapped file count as memory of the process.

    Args:
        folder: where the file lies.
        size: ``height, width, channels, dtype``, as of :class:`TokenStore`.

    Raises:
        OSError: the folder or the disk takes no such file; a full one says so when it is full.
    """

    def __init__(self, folder: str | PathLike, *size: int | torch.dtype) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (as long as the store)
        super().__init__(*size, device="cpu")

    def _allocate(self, device: torch.device | str) -> None:
        self._row_size = self.width * self.channels * self.dtype.itemsize

    def read(self, first: int, last: int) -> Tensor:
        """See :class:`TokenStore`; a copy."""
        tokens = torch.empty((last - first) * self.width, self.channels, dtype=self.dtype)
        self._file.seek(first * self._row_size)
        self._file.readinto(_bytes_of(tokens))
        return tokens

    def place(self, first: int, last: int, device: torch.device) -> Tensor:
        """See :class:`TokenStore`."""
        shape = ((last - first) * self.width, self.channels)
        return torch.empty(shape, dtype=self.dtype, device=device)

    def write(self, first: int, tokens: Tensor) -> None:
        """See :class:`TokenStore`."""
        self._file.seek(first * self._row_size)
        self._file.write(_bytes_of(tokens.cpu()))


def _bytes_of(tokens: Tensor) -> memoryview:
    return memoryview(tokens.contiguous().view(torch.uint8).numpy())
