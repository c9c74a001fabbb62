"""The convolutional stem that turns an image into patches."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

PATCH_SIZES = (8, 16)


class ConvolutionalPatchEmbedding(nn.Sequential):
    """A stack of 3x3 stride-2 convolutions with norms, GELU between them.

    Three convolutions for patch size 8, four for 16; the width doubles up to ``embed_dims``.
    Source: XCiT paper, section 3.3 (after Graham et al., LeViT).

    Args:
        patch_size: 8 or 16.
        in_channels: channels of the image.
        embed_dims: width C of a patch; divisible by half the patch size.
        norm_layer: makes the norm of a map from its number of channels.
    """

    def __init__(
        self,
        patch_size: int,
        in_channels: int,
        embed_dims: int,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        num_convs = {8: 3, 16: 4}[patch_size]
        widths = [in_channels] + [embed_dims >> i for i in reversed(range(num_convs))]
        stages = [
            nn.Sequential(
                nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False),
                norm_layer(width_out),
            )
            for width_in, width_out in pairwise(widths)
        ]
        with_activations = [module for stage in stages for module in (stage, nn.GELU())]
        super().__init__(*with_activations[:-1])

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, in_channels, H, W), H and W multiples of the patch size P.

        Returns:
            (B, embed_dims, H / P, W / P).
        """
        return super().forward(image)
