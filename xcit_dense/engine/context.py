"""What attention sees: the whole image, or a window of a training image's size around each place.

Attention knows the tokens by their moments alone, and those of parts add up. For windows, moments
are gathered once for the cells of a grid, half a window each way; two by two cells make a window,
and every token is mixed as each of the windows around it would, weighted by how near it is to their
centres. So attention sees as much as in training, in an image of any size, without seams.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.network import Moments

Making = Callable[[Moments], tuple[Tensor, Tensor]]
"""Of the linear layer that attention is for tokens of these moments."""


class Context(Protocol):
    """The tokens of a store, as attention sees them: gathered row by row, then used likewise."""

    def gather(self, first_row: int, normed: Tensor) -> None:
        """Add the normed tokens (rows * width, C) of the rows from ``first_row`` on."""

    def use(self, make: Making, pack: Callable[..., Callable[[Tensor], Tensor]]) -> None:
        """Get ready to mix, when all is gathered.

        Args:
            make: the weight (..., C, C) and bias (..., C) for moments with these axes in front.
            pack: makes a function of tokens (M, C) of one weight and bias.
        """

    def mix(self, first_row: int, normed: Tensor) -> Tensor:
        """Mix tokens (rows * width, C) of the rows from ``first_row`` on."""


class WholeImage:
    """Attention sees all tokens of the image.

    Args:
        seen: bool (height, width), which of them; None: all.
    """

    def __init__(self, seen: Tensor | None = None) -> None:
        self._seen = seen
        self._moments: Moments | None = None

    def gather(self, first_row: int, normed: Tensor) -> None:
        """See :class:`Context`."""
        seen, known = _seen_of(self._seen, first_row, normed), self._moments
        if seen is not None:
            normed = normed[seen]
        if len(normed):
            found = Moments.of(normed)
        else:
            exact = torch.promote_types(normed.dtype, torch.float32)
            nothing = normed.new_zeros(normed.shape[1], dtype=exact)
            found = Moments(0, nothing, torch.diag(nothing))
        self._moments = known.merge(found) if known and known.count else found

    def use(self, make: Making, pack: Callable[..., Callable[[Tensor], Tensor]]) -> None:
        """See :class:`Context`."""
        self._mix = pack(*make(self._moments._replace(count=max(self._moments.count, 1))))

    def mix(self, first_row: int, normed: Tensor) -> Tensor:
        """See :class:`Context`."""
        return self._mix(normed)


class Axis:
    """One side of a grid of tokens, in cells of which two make a window.

    Attributes:
        count: of cells.
        size: of a cell, in tokens; the last one may be smaller.
        windows: how many there are.
    """

    def __init__(self, length: int, window: int) -> None:
        self.count = max(1, round(2 * length / window))
        self.size = -(-length // self.count)
        self.count = -(-length // self.size)
        self.windows = max(self.count - 1, 1)

    def around(self, cell: int) -> tuple[int, int]:
        """The windows whose centres are before and behind a cell; at the borders the same."""
        return max(cell - 1, 0), min(cell, self.windows - 1)

    def nearness(self, first: int, last: int, **options: object) -> Tensor:
        """How much the second window counts for places within a cell, (last - first,)."""
        return (torch.arange(first, last, **options) + 0.5) / self.size


class Windows:
    """Attention sees a window of the image around each place.

    Args:
        height: rows of the grid of tokens.
        width: columns.
        window: side of a window, in tokens.
        seen: bool (height, width), which tokens are seen; None: all.

    Attributes:
        num_cells: of all of the grid.
    """

    def __init__(self, height: int, width: int, window: int, seen: Tensor | None = None) -> None:
        self.height, self.width, self._seen = height, width, seen
        self._rows, self._columns = Axis(height, window), Axis(width, window)
        self.num_cells = self._rows.count * self._columns.count
        self._cells: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # moments, by rows of cells
        self._ready: dict[int, tuple[Tensor, Tensor]] = {}  # what mixes, by rows of windows

    def gather(self, first_row: int, normed: Tensor) -> None:
        """See :class:`Context`."""
        seen = _seen_of(self._seen, first_row, normed)
        if seen is not None:  # ones and zeros
            seen = seen.to(normed)[:, None]
            seen_parts = [part for *_, part in self._parts(first_row, seen)]
            normed = normed * seen
        for index, (cell, _, tokens) in enumerate(self._parts(first_row, normed)):
            missing = self._columns.count * self._columns.size - self.width
            exact = torch.promote_types(tokens.dtype, torch.float32)
            if seen is None:
                counts = tokens.new_full((self._columns.count, 1), tokens.shape[1], dtype=exact)
                counts[-1] -= missing * (tokens.shape[1] // self._columns.size)
            else:
                counts = seen_parts[index].sum(1, dtype=exact)
            mean = tokens.sum(1, dtype=exact) / counts.clamp_min(1)
            apart = tokens - mean[:, None].to(tokens.dtype)
            if seen is not None:
                apart *= seen_parts[index]
            elif missing:
                grid = apart[-1].view(-1, self._columns.size, apart.shape[-1])
                grid[:, self._columns.size - missing :] = 0
            covariance = (apart.mT @ apart).to(exact) / counts.clamp_min(1)[..., None]
            found = counts, mean, covariance
            known = self._cells.get(cell)
            self._cells[cell] = found if known is None else _merged(known, found)

    def use(self, make: Making, pack: Callable[..., Callable[[Tensor], Tensor]]) -> None:
        """See :class:`Context`."""
        self._make = make

    def mix(self, first_row: int, normed: Tensor) -> Tensor:
        """See :class:`Context`."""
        mixed = torch.empty_like(normed)
        columns = self._columns
        options = dict(device=normed.device, dtype=normed.dtype)
        for cell, start, tokens in self._parts(first_row, normed):
            rows = tokens.shape[1] // columns.size
            above, below = self._rows.around(cell)
            nearness = self._rows.nearness(start, start + rows, **options)
            total = 0
            for of_windows, near in ((above, 1 - nearness), (below, nearness)):
                if above == below:
                    near = torch.ones_like(near)
                weight, bias = (each.to(tokens.dtype) for each in self._row_of_windows(of_windows))
                total = total + near[:, None, None] * self._beside(tokens, weight, bias, rows)
                if above == below:
                    break
            grid = total.permute(1, 0, 2, 3).flatten(1, 2)[:, : self.width]
            place = (cell * self._rows.size + start - first_row) * self.width
            mixed[place : place + rows * self.width] = grid.flatten(0, 1)
        return mixed

    def _beside(self, tokens: Tensor, weight: Tensor, bias: Tensor, rows: int) -> Tensor:
        """Mix as the windows of one row do: (cells, rows * size, C) to (cells, rows, size, C)."""
        columns = self._columns
        around = [columns.around(cell) for cell in range(columns.count)]
        before, behind = (list(of_cells) for of_cells in zip(*around, strict=True))
        left = torch.baddbmm(bias[before, None], tokens, weight[before].mT)
        right = torch.baddbmm(bias[behind, None], tokens, weight[behind].mT)
        near = columns.nearness(0, columns.size, device=tokens.device, dtype=tokens.dtype)
        shape = (columns.count, rows, columns.size, -1)
        return torch.lerp(left.view(shape), right.view(shape), near[:, None])

    def _row_of_windows(self, index: int) -> tuple[Tensor, Tensor]:
        """Weight (windows, C, C) and bias (windows, C) of the windows of a row."""
        if index not in self._ready:
            upper, lower = self._cells[index], self._cells.get(index + 1)
            cells = upper if lower is None else _merged(upper, lower)
            if self._columns.count > 1:
                left, right = (
                    tuple(t[part] for t in cells) for part in (slice(-1), slice(1, None))
                )
                cells = _merged(left, right)
            self._ready[index] = self._make(Moments(1, *cells[1:]))
            for done in [each for each in self._ready if each < index - 1]:
                del self._ready[done]
                del self._cells[done]
        return self._ready[index]

    def _parts(self, first_row: int, normed: Tensor) -> list[tuple[int, int, Tensor]]:
        """Rows of tokens by the row of cells that they are in.

        Returns:
            The row of cells, the first row in it, and (cells, rows * size, C), zeros where the last
            cell reaches beyond the image.
        """
        grid = normed.view(-1, self.width, normed.shape[-1])
        columns, size = self._columns, self._rows.size
        parts, row = [], first_row
        while row < first_row + len(grid):
            cell, start = divmod(row, size)
            stop = min((cell + 1) * size, first_row + len(grid))
            rows = grid[row - first_row : stop - first_row]
            missing = columns.count * columns.size - self.width
            if missing:
                rows = F.pad(rows, (0, 0, 0, missing))
            cells = rows.view(len(rows), columns.count, columns.size, -1).transpose(0, 1)
            parts.append((cell, start, cells.flatten(1, 2)))
            row = stop
        return parts


def _seen_of(seen: Tensor | None, first_row: int, normed: Tensor) -> Tensor | None:
    """Which tokens of the rows from ``first_row`` on are seen, (rows * width,); None: all."""
    if seen is None:
        return None
    rows = seen[first_row : first_row + len(normed) // seen.shape[1]].flatten()
    return None if rows.all() else rows.to(normed.device)


def _merged(
    one: tuple[Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Counts (n, 1), means (n, C) and covariances (n, C, C) of both together."""
    count = one[0] + other[0]
    share = other[0] / count.clamp_min(1)
    apart = other[1] - one[1]
    covariance = torch.lerp(one[2], other[2], share[..., None])
    spread = apart[..., :, None] * apart[..., None, :]
    return (
        count,
        one[1] + share * apart,
        covariance + (share * (1 - share))[..., None] * spread,
    )
