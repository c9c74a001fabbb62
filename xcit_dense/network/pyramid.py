"""The pyramid: from maps of one stride to maps of strides 4, 8, 16 and 32."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from xcit_dense.network.calling import again, may_compute_again

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
                name: Upsample(embed_dims, patch_size // stride, norm_layer)
                if stride < patch_size
                else _downsample(stride // patch_size)
                for name, stride in zip(
                    _level_names(self.out_strides), self.out_strides, strict=True
                )
            }
        )

    def forward(self, maps: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Rescale the maps (B, C, h, w) of an image of height H and width W, in pixels.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)) for each of the strides.
        """
        height, width = image_size
        levels = zip(self.levels.values(), maps, self.out_strides, strict=True)
        return tuple(
            level(feature_map)[..., : -(-height // stride), : -(-width // stride)]
            for level, feature_map, stride in levels
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


class Upsample(nn.Sequential):
    """Double the resolution once (``scale`` 2) or twice (4) by transposed 2x2 convolutions.

    For backward only the inputs of the convolutions' norms are kept.
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
        if len(self) == 1 or not may_compute_again(self):
            return super().forward(feature_map)
        first, *rest = self
        return again(nn.Sequential(*rest), first(feature_map), norms=rest[0])


def _downsample(scale: int) -> nn.Module:
    """Divide the resolution; a rest at the border makes a place of its own."""
    return nn.Identity() if scale == 1 else nn.MaxPool2d(scale, stride=scale, ceil_mode=True)
