"""The convolutional stem that turns an image into patches."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from xcit_dense.network.calling import again, is_transformed, may_compute_again

PATCH_SIZES = (8, 16)


class ConvolutionalPatchEmbedding(nn.Sequential):
    """A stack of 3x3 stride-2 convolutions with norms, GELU between them.

    Three convolutions for patch size 8, four for 16; the width doubles up to ``embed_dims``. For
    backward only the outputs of the convolutions are kept.
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
        self.patch_size = patch_size

    @property
    def stages(self) -> list[nn.Sequential]:
        """Convolution and norm of each resolution."""
        return list(self)[::2]

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, in_channels, H, W), H and W multiples of the patch size P.

        Returns:
            (B, embed_dims, H / P, W / P), in channels-last.
        """
        feature_map = image
        if not is_transformed():  # vmap knows no memory formats
            feature_map = image.contiguous(memory_format=torch.channels_last)
        own = all(type(stage) is nn.Sequential for stage in self.stages)
        if not own or not may_compute_again(self):
            return super().forward(feature_map)
        (convolution, norm), *later_stages = self.stages
        feature_map = convolution(feature_map)
        for activation, (convolution, next_norm) in zip(
            list(self)[1::2], later_stages, strict=True
        ):
            step = nn.Sequential(norm, activation, convolution)
            feature_map = again(step, feature_map, norms=norm)
            norm = next_norm
        return norm(feature_map)
