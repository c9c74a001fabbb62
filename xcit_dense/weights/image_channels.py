"""Weights made for images of some channels, used for images of others."""

import torch
from torch import Tensor


def adapt_image_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Fit the first convolution of a pretrained network to another number of image channels.

    For more channels the given ones are dealt out in turn (R G B R G ...), and the copies of a
    channel share its weight equally. For fewer they are added up in turn (for 2: R + B, G). Either
    way an image whose channels are all equal gives the same response as before. For one channel
    (the sum) and for multiples of 3 this is the rule of timm.

    Args:
        weight: weight (C, channels, kH, kW) of the convolution.
        in_channels: wanted number of channels.

    Returns:
        Weight (C, in_channels, kH, kW).
    """
    given = weight.shape[1]
    if in_channels >= given:
        source = torch.arange(in_channels, device=weight.device) % given
        copies = torch.bincount(source)[source].to(weight.dtype)
        return weight[:, source] / copies.view(1, -1, 1, 1)
    target = torch.arange(given, device=weight.device) % in_channels
    adapted = weight.new_zeros(weight.shape[0], in_channels, *weight.shape[2:])
    return adapted.index_add(1, target, weight)
