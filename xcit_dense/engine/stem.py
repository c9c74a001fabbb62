"""Stem and position encoding, band by band."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.engine.context import Context
from xcit_dense.engine.products import rows_per_piece
from xcit_dense.engine.stores import Source, TokenStore, read_padded
from xcit_dense.engine.weights import Layer, TokenNorm
from xcit_dense.network import fourier_position_codes


def embed(
    source: Source,
    store: TokenStore,
    patch_size: int,
    stem: list[Layer],
    position: tuple[Layer, Layer],
    next_norm: TokenNorm,
    context: Context,
    tell: Callable[[int], object],
) -> None:
    """Fill a store with the patches of an image.

    Args:
        source: the image, of ``patch_size`` times the size of the ``store``, or a bit less.
        stem: 3x3 stride-2 convolutions, ready to be used.
        position: projections of the codes of rows and columns.
        next_norm: the norm of the first block.
        context: gathers the normed patches.
        tell: is called with numbers of rows that were done.
    """
    device, dtype = stem[0].weight.device, stem[0].weight.dtype
    of_rows, of_columns = (
        F.linear(_codes(length, layer), layer.weight, layer.bias).to(store.dtype)
        for length, layer in zip((store.height, store.width), position, strict=True)
    )
    # The first map has half the rows and columns of the image. It may leave the innermost cache:
    # a low band computes much of the upper border of its maps twice.
    width = store.width * patch_size * len(stem[0].weight) // 4 // 2
    size = max(8, rows_per_piece(width, device) // patch_size)
    for start in range(0, store.height, size):
        stop, first = min(start + size, store.height), max(start - 1, 0)
        band = read_padded(source, first * patch_size, stop * patch_size, patch_size)
        # A patch depends on pixels less than P above its own, and on none below.
        patches = _run_stem(band.to(device, dtype), stem)[0, :, start - first :]
        grid = patches.permute(1, 2, 0) + of_rows[start:stop, None]
        tokens = grid.add_(of_columns).flatten(0, 1)
        store.write(start, tokens)
        if store.seen is not None:
            store.seen[start:stop] = _with_data(source, start, stop, patch_size)
        context.gather(start, next_norm(tokens))
        tell(stop - start)


def _with_data(source: Source, start: int, stop: int, patch_size: int) -> Tensor | bool:
    """Which patches of some rows have data, bool (rows, columns)."""
    last = min(stop * patch_size, source.height)
    valid = source.valid(start * patch_size, last)
    if valid is None:
        return True
    padding = 0, -source.width % patch_size, 0, stop * patch_size - last
    patches = F.pad(valid, padding).unflatten(1, (-1, patch_size)).unflatten(0, (-1, patch_size))
    return patches.any(dim=3).any(dim=1)


def _codes(length: int, layer: Layer) -> Tensor:
    weight = layer.weight
    return fourier_position_codes(length, weight.shape[1], weight.device).to(weight.dtype)


def _run_stem(image: Tensor, stem: list[Layer]) -> Tensor:
    first, *later = stem
    feature_map = F.conv2d(
        image.contiguous(memory_format=torch.channels_last), *first, stride=2, padding=1
    )
    for layer in later:
        feature_map = F.conv2d(torch.ops.aten.gelu_(feature_map), *layer, stride=2, padding=1)
    return feature_map
