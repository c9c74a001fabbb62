"""A block, band by band: attention from moments, neighbours with a halo, the rest in pieces."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.engine.context import Context
from xcit_dense.engine.products import packed_linear, rows_per_piece, scaled
from xcit_dense.engine.stores import TokenStore
from xcit_dense.engine.weights import BlockWeights, Layer, TokenNorm
from xcit_dense.network import Moments, mixing

# Rows up and down that enter a token: one for each of the two 3x3 convolutions.
REACH = 2
_LOWEST = 8 * REACH


class BlockRunner:
    """A block whose weights are ready to be used for any number of images.

    Args:
        weights: of the block.
        dtype: that products are computed in.
    """

    def __init__(self, weights: BlockWeights, dtype: torch.dtype) -> None:
        self.weights = weights
        self.dtype = dtype
        self.to_hidden = packed_linear(weights.fc1, dtype, gelu=True)
        self.from_hidden = packed_linear(scaled(weights.fc2, weights.ffn_scale), dtype)
        conv2 = scaled(weights.conv2, weights.interaction_scale)
        self.conv1, self.conv2 = (
            Layer(*(t.to(dtype) for t in layer)) for layer in (weights.conv1, conv2)
        )
        self.affine = weights.affine and [
            tensor.to(dtype).view(1, -1, 1, 1) for tensor in weights.affine
        ]

    def run(
        self,
        store: TokenStore,
        context: Context,
        next_norm: TokenNorm | None,
        next_context: Context,
        tell: Callable[[int], object],
    ) -> None:
        """Replace the tokens of an image by what the block makes of them.

        A band is read once and written once. The rows after attention that the next band needs
        are handed on to it.

        Args:
            store: the tokens.
            context: what attention sees of the normed tokens.
            next_norm: the norm of the block that follows, if one does.
            next_context: gathers the new tokens after ``next_norm``.
            tell: is called with numbers of rows that were done.
        """
        weights, height, width = self.weights, store.height, store.width
        device, channels = weights.fc1.weight.device, weights.fc1.weight.shape[1]
        context.use(self._make_mixing, lambda *layer: packed_linear(Layer(*layer), self.dtype))

        size = max(_LOWEST, rows_per_piece(width * channels, device))
        shape = (min(size + 2 * REACH, height) * width, channels)
        attended = torch.empty(shape, dtype=store.dtype, device=device)
        top = done = 0  # the rows of the image from which on, and up to which, it is filled
        for start in range(0, height, size):
            stop, below = min(start + size, height), min(start + size + REACH, height)
            for first in range(done, below, max(1, size // 4)):
                last = min(first + max(1, size // 4), below)
                tokens = store.read(first, last).to(device)
                place = attended[(first - top) * width : (last - top) * width]
                torch.add(tokens, context.mix(first, weights.attention_norm(tokens)), out=place)
            window = attended[: (below - top) * width]
            tokens = store.place(start, stop, device)
            self._interact(window, width, start - top, below - stop, out=tokens)
            for piece in tokens.split(rows_per_piece(4 * channels, device)):
                piece += self.from_hidden(self.to_hidden(weights.ffn_norm(piece)))
            store.write(start, tokens)
            if next_norm is not None:
                next_context.gather(start, next_norm(tokens))
            next_top = max(stop - REACH, 0)
            kept = attended[(next_top - top) * width : (below - top) * width].clone()
            attended[: len(kept)] = kept
            top, done = next_top, below
            tell(stop - start)

    def _make_mixing(self, moments: Moments) -> Layer:
        """The linear layer that attention is for tokens of these moments, scaled."""
        weight, bias = mixing(moments, self.weights.projections, self.weights.temperature)
        scale = self.weights.attention_scale
        return (
            Layer(weight, bias) if scale is None else Layer(weight * scale[:, None], bias * scale)
        )

    def _interact(self, window: Tensor, width: int, above: int, below: int, out: Tensor) -> None:
        """LPI on rows of tokens, of which ``above`` and ``below`` (0 to 2) are only looked at.

        Where there are fewer than two the image ends, and zeros come in their place.
        """
        normed = self.weights.interaction_norm(window).to(self.dtype)
        feature_map = normed.view(1, -1, width, normed.shape[-1]).permute(0, 3, 1, 2)
        feature_map = _convolve_rows(feature_map, self.conv1, above < 2, below < 2)
        feature_map = torch.ops.aten.gelu_(feature_map)
        if self.affine:
            factor, summand = self.affine
            torch.addcmul(summand, feature_map, factor, out=feature_map)
        feature_map = _convolve_rows(feature_map, self.conv2, above < 1, below < 1)
        rows = feature_map.permute(0, 2, 3, 1).flatten(0, 2)
        torch.add(window[above * width : len(window) - below * width], rows, out=out)


def _convolve_rows(feature_map: Tensor, layer: Layer, at_top: bool, at_bottom: bool) -> Tensor:
    """A depthwise 3x3 convolution with zeros beside the map, and above and below at its ends."""
    if at_top and at_bottom:
        return F.conv2d(feature_map, *layer, padding=1, groups=len(layer.weight))
    if at_top or at_bottom:  # zeros on both sides, and away with what saw the wrong ones
        rows = F.conv2d(feature_map, *layer, padding=1, groups=len(layer.weight))
        return rows[:, :, :-1] if at_top else rows[:, :, 1:]
    return F.conv2d(feature_map, *layer, padding=(0, 1), groups=len(layer.weight))
