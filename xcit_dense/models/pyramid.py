"""The pyramid: from four maps of one stride to maps of strides 4, 8, 16 and 32."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from xcit_dense.ops import crop_map

STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """Rescale four maps of stride ``patch_size`` to the strides 4, 8, 16 and 32.

    Upwards by transposed 2x2 convolutions, downwards by max pooling, as in the dense-prediction
    release of the XCiT paper.

    Args:
        embed_dims: width C of every map.
        patch_size: stride of the maps that come in, 8 or 16.
        norm_layer: makes the norm of a map from its number of channels.
    """

    def __init__(
        self,
        embed_dims: int,
        patch_size: int,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _upsample(embed_dims, patch_size // stride, norm_layer)
            if stride < patch_size
            else _downsample(stride // patch_size)
            for stride in STRIDES
        )

    def forward(self, maps: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Rescale the maps (B, C, h, w) of an image of height H and width W, in pixels.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)) for each of the four strides.
        """
        height, width = image_size
        return tuple(
            crop_map(level(feature_map), -(-height // stride), -(-width // stride))
            for level, feature_map, stride in zip(self.levels, maps, STRIDES, strict=True)
        )


def _upsample(embed_dims: int, scale: int, norm_layer: Callable[[int], nn.Module]) -> nn.Sequential:
    """Double the resolution once (``scale`` 2) or twice (4)."""
    layers = [nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2)]
    if scale == 4:
        layers += [
            norm_layer(embed_dims),
            nn.GELU(),
            nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2),
        ]
    return nn.Sequential(*layers)


def _downsample(scale: int) -> nn.Module:
    """Divide the resolution; a rest at the border makes a place of its own."""
    return nn.Identity() if scale == 1 else nn.MaxPool2d(scale, stride=scale, ceil_mode=True)
