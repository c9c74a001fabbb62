"""The pyramid: from maps of one stride to maps of strides 4, 8, 16 and 32."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from torch import Tensor, nn

from xcit_dense.layers import folded_weights, is_local, untracked_statistics
from xcit_dense.ops import (
    after_cheap,
    children_weights,
    crop_map,
    is_recorded,
    linear,
    map_to_tokens,
    prepared_linear,
    tokens_to_map,
    upsample,
)

STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """Rescale maps of stride ``patch_size`` to the strides 4, 8, 16 and 32, or to some of them.

    Upwards by transposed 2x2 convolutions, downwards by max pooling, as in the dense-prediction
    release of the XCiT paper. A level is named after the place of its stride in the whole pyramid,
    so that its weights fit whatever the other levels are.

    Args:
        embed_dims: width C of every map.
        patch_size: stride of the maps that come in, 8 or 16.
        norm_layer: makes the norm of a map from its number of channels.
        out_strides: stride of each level.

    Raises:
        ValueError: the strides are not 1 to 4 of 4, 8, 16 and 32, from fine to coarse.
    """

    def __init__(
        self,
        embed_dims: int,
        patch_size: int,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
        out_strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.out_strides = check_out_strides(out_strides)
        self.levels = nn.ModuleDict(
            {
                name: _Upsample(embed_dims, patch_size // stride, norm_layer)
                if stride < patch_size
                else _downsample(stride // patch_size)
                for name, stride in zip(
                    _level_names(self.out_strides), self.out_strides, strict=True
                )
            }
        )

    def forward(self, maps: Iterable[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Rescale the maps (B, C, h, w) of an image of height H and width W, in pixels.

        The maps are taken one by one, and each is let go before the next is asked for.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)) for each of the strides.
        """
        height, width = image_size
        next_map = iter(maps).__next__
        return tuple(
            [
                crop_map(level(next_map()), -(-height // stride), -(-width // stride))
                for level, stride in zip(self.levels.values(), self.out_strides, strict=True)
            ]
        )


def check_out_strides(out_strides: Sequence[int]) -> tuple[int, ...]:
    """The strides as a tuple.

    Raises:
        ValueError: they are not 1 to 4 of 4, 8, 16 and 32, from fine to coarse.
    """
    strides = tuple(out_strides)
    given = f"out_strides={strides}"
    if not 1 <= len(strides) <= len(STRIDES):
        raise ValueError(f"{given}: must be 1 to {len(STRIDES)} levels")
    if any(stride not in STRIDES for stride in strides):
        raise ValueError(f"{given}: each must be one of {STRIDES}")
    if list(strides) != sorted(strides):
        raise ValueError(f"{given}: must go from fine to coarse; a stride may repeat")
    return strides


def _level_names(strides: tuple[int, ...]) -> list[str]:
    """The place of each stride among ``STRIDES``; a stride that repeats gets a suffix."""
    names = []
    for index, stride in enumerate(strides):
        repeats = strides[:index].count(stride)
        names.append(f"{STRIDES.index(stride)}" + (f"_repeat{repeats}" if repeats else ""))
    return names


class _Upsample(nn.Sequential):
    """Double the resolution once (``scale`` 2) or twice (4) by transposed 2x2 convolutions.

    The kernels do not overlap: a token has four children, which know nothing of other tokens, so
    all is linear layers on tokens. For backward only the input and the children before the norm
    are kept.
    """

    def __init__(self, embed_dims: int, scale: int, norm_layer: Callable[[int], nn.Module]) -> None:
        layers = [nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2)]
        if scale == 4:
            layers += [
                norm_layer(embed_dims),
                nn.GELU(),
                nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2),
            ]
        super().__init__(*layers)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, scale * H, scale * W)."""
        if len(self) == 1:
            weights = children_weights(self[0].weight, self[0].bias)
            grow = prepared_linear(*weights, feature_map)
            return upsample(feature_map, grow, generations=1)
        if is_recorded() or not is_local(self[1]):
            return upsample(feature_map, self._grandchildren, generations=2, whole=True)
        first, norm, _, second = self
        to_children = prepared_linear(
            *children_weights(*folded_weights(first, norm)), feature_map, activation="gelu"
        )
        to_grandchildren = prepared_linear(
            *children_weights(second.weight, second.bias), feature_map
        )

        def grow(tokens: Tensor) -> Tensor:
            children = to_children(tokens).view(1, -1, second.in_channels)
            return to_grandchildren(children)

        return upsample(feature_map, grow, generations=2)

    def _grandchildren(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, 4 * N, 4 * C): each child, and with it its children."""
        first, norm, activation, second = self
        children = linear(tokens, *children_weights(first.weight, first.bias))
        children = children.view(len(tokens), -1, second.in_channels)

        def norm_and_activate(children: Tensor) -> Tensor:
            # the norm does not mind the order of the places
            feature_map = norm(tokens_to_map(children, 1, children.shape[1]))
            return activation(map_to_tokens(feature_map))

        return after_cheap(
            norm_and_activate,
            linear,
            children,
            *children_weights(second.weight, second.bias),
            cheap_parameters=norm.parameters(),
            second_time=partial(untracked_statistics, norm),
        )


def _downsample(scale: int) -> nn.Module:
    """Divide the resolution; a rest at the border makes a place of its own."""
    return nn.Identity() if scale == 1 else nn.MaxPool2d(scale, stride=scale, ceil_mode=True)
