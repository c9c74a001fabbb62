"""Going between tokens and maps, and between any image size and a whole number of patches."""

import torch.nn.functional as F
from torch import Tensor


def tokens_to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """View tokens (B, H * W, C), in row-major order, as a map (B, C, H, W), in channels-last."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def map_to_tokens(feature_map: Tensor) -> Tensor:
    """View a map (B, C, H, W) as tokens (B, H * W, C), in row-major order."""
    return feature_map.permute(0, 2, 3, 1).flatten(1, 2)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) with zeros, at the bottom and the right, to multiples of ``multiple``."""
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, bottom)) if bottom or right else image


def crop_map(feature_map: Tensor, height: int, width: int) -> Tensor:
    """Keep the top left ``height`` x ``width`` of (B, C, H, W); the same tensor if it fits."""
    return feature_map[..., :height, :width]
