"""Offsets and masks of deformable convolutions that are larger than the output.

DyHead (Dai et al. 2021) hands the offsets of a level to a convolution of the next coarser one.
torchvision refuses them. mmcv's kernels take the values of an image one after the other, row by row
of the output: of K maps of h x w they see the first K * Ho * Wo values, as K maps of Ho x Wo, and
leave the rest without a gradient. Models are trained that way, so it is kept.
"""

import torch
from torch import Tensor


def as_kernels_read(taps: Tensor, output_size: torch.Size) -> Tensor:
    """What mmcv's kernels see of offsets or masks.

    Args:
        taps: (B, K, h, w).
        output_size: Ho and Wo.

    Returns:
        (B, K, Ho, Wo); ``taps`` as they are where they have this size, or too few values for it.
    """
    batch, maps, *size = taps.shape
    height, width = output_size
    if size == [height, width] or taps[0].numel() < maps * height * width:
        return taps
    return taps.flatten(1)[:, : maps * height * width].view(batch, maps, height, width)


def as_kernels_write(gradient: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of offsets or masks of a shape (B, K, h, w) from that of what was seen."""
    if gradient.shape == shape:
        return gradient
    whole = gradient.new_zeros(shape)
    whole.flatten(1)[:, : gradient[0].numel()] = gradient.flatten(1)
    return whole
