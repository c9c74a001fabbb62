"""Levels of the pyramid: any rows of them, from the tokens of a store."""

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.engine.products import packed_linear, rows_per_piece
from xcit_dense.engine.stores import TokenStore
from xcit_dense.engine.weights import Layer


class LevelRunner:
    """A level of the pyramid.

    Transposed 2x2 stride-2 convolutions do not overlap: a token has four children, which know
    nothing of other tokens. So they are linear layers, and their results are put in their places.

    Args:
        stride: of the level, in pixels.
        patch_size: stride of the tokens, in pixels.
        layers: transposed convolutions that double the resolution each, with GELU between them;
            none where it stays or is divided.
        dtype: that products are computed in.
        device: where it is computed.
    """

    def __init__(
        self,
        stride: int,
        patch_size: int,
        layers: list[Layer],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.stride = stride
        self.up, self.down = max(patch_size // stride, 1), max(stride // patch_size, 1)
        self.layers = layers
        self.dtype = dtype
        self.device = device

    def read(self, store: TokenStore, first: int, last: int) -> Tensor:
        """The rows ``first`` to ``last`` of the level, without the last: (1, C, rows, columns)."""
        top = first // self.up * self.down
        bottom = min(-(-last // self.up) * self.down, store.height)
        level = self._empty(1, bottom - top, store)
        self._fill(level[0], store, top, bottom)
        start = top * self.up // self.down
        return level[:, first - start : last - start].permute(0, 3, 1, 2)

    def read_all(self, stores: list[TokenStore]) -> Tensor:
        """The whole level of images of one size, (B, C, rows, columns), in channels-last."""
        level = self._empty(len(stores), stores[0].height, stores[0])
        for image, store in zip(level, stores, strict=True):
            self._fill(image, store, 0, store.height)
        return level.permute(0, 3, 1, 2)

    def _empty(self, batch: int, rows: int, store: TokenStore) -> Tensor:
        rows, columns = (-(-side * self.up // self.down) for side in (rows, store.width))
        dtype = self.dtype if self.layers else store.dtype
        return torch.empty(batch, rows, columns, store.channels, dtype=dtype, device=self.device)

    def _fill(self, level: Tensor, store: TokenStore, top: int, bottom: int) -> None:
        """Put what the rows ``top`` to ``bottom`` of the tokens become into (rows, columns, C)."""
        channels = level.shape[-1]
        size = self.down * rows_per_piece(self.up**2 * store.width * channels, self.device)
        for first in range(top, bottom, size):
            last = min(first + size, bottom)
            tokens = store.read(first, last).to(self.device)
            start = (first - top) * self.up // self.down
            places = level[start : start - (first - last) * self.up // self.down]
            if self.down > 1:
                grid = tokens.view(1, -1, store.width, tokens.shape[-1]).permute(0, 3, 1, 2)
                pooled = F.max_pool2d(grid, self.down, ceil_mode=True)
                level[start : start + pooled.shape[2]] = pooled[0].permute(1, 2, 0)
            else:
                self._put_children(tokens, places, last - first, store.width)

    def _put_children(self, tokens: Tensor, places: Tensor, height: int, width: int) -> None:
        """Put the children of every token in its place, and theirs in theirs."""
        for to_children in self._to_children:
            tokens = to_children(tokens.reshape(-1, places.shape[-1]))
        doublings = len(self.layers)
        # row, column, rows of children, columns of children, ... -> rows first, then columns
        family = tokens.reshape(height, width, *[2, 2] * doublings, -1)
        rows, columns = range(2, 2 + 2 * doublings, 2), range(3, 3 + 2 * doublings, 2)
        family = family.permute(0, *rows, 1, *columns, 2 + 2 * doublings)
        places.view(family.shape).copy_(family)

    @cached_property
    def _to_children(self) -> list[Callable[[Tensor], Tensor]]:
        """Maps from tokens to their children (M, 4 * C), in row-major order."""
        return [
            packed_linear(
                Layer(layer.weight.permute(2, 3, 1, 0).flatten(0, 2), layer.bias.repeat(4)),
                self.dtype,
                gelu=layer is not self.layers[-1],
            )
            for layer in self.layers
        ]
