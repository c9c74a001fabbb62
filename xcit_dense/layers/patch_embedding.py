"""The convolutional stem that turns an image into patches."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xcit_dense.layers.activation_checkpoint import untracked_statistics
from xcit_dense.layers.folded_norm import convolution_then_norm, is_local
from xcit_dense.ops import Convolution, after_cheap, downscale_in_bands

PATCH_SIZES = (8, 16)


class ConvolutionalPatchEmbedding(nn.Sequential):
    """A stack of 3x3 stride-2 convolutions with norms, GELU between them.

    Three convolutions for patch size 8, four for 16; the width doubles up to ``embed_dims``.
    For backward only the outputs of the convolutions are kept.
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

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, in_channels, H, W), H and W multiples of the patch size P.

        Returns:
            (B, embed_dims, H / P, W / P).
        """
        stages = [module for module in self if isinstance(module, nn.Sequential)]
        if torch.is_grad_enabled() or not all(is_local(norm) for _, norm in stages):
            return _embed_for_backward(image, stages)
        steps = [convolution_then_norm(convolution, norm) for convolution, norm in stages]
        # The first map is half as high and half as wide as the image. It may leave the innermost
        # cache: bands that are low compute much of their upper border twice.
        elements_per_row = image.shape[3] * stages[0][0].out_channels // 4 // 2
        embed = partial(_embed, steps=steps)
        return downscale_in_bands(embed, image, self.patch_size, elements_per_row)


def _embed(image: Tensor, steps: list[Callable[[Tensor], Tensor]]) -> Tensor:
    first, *later = steps
    feature_map = first(image.contiguous(memory_format=torch.channels_last))
    for step in later:
        feature_map = step(torch.ops.aten.gelu_(feature_map))
    return feature_map


def _embed_for_backward(image: Tensor, stages: list[nn.Sequential]) -> Tensor:
    (convolution, norm), *later_stages = stages
    feature_map = convolution(image.contiguous(memory_format=torch.channels_last))
    for convolution, next_norm in later_stages:
        feature_map = after_cheap(
            lambda before, norm=norm: F.gelu(norm(before)),
            Convolution.of(convolution),
            feature_map,
            convolution.weight,
            convolution.bias,
            cheap_parameters=norm.parameters(),
            second_time=partial(untracked_statistics, norm),
        )
        norm = next_norm
    return norm(feature_map)
