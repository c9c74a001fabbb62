"""The size of the images that a model is tried on."""

from typing import Any

import torch
from mmengine.model import BaseModel

from xcit_dense.mm.config_tree import dicts_in, type_name

DEFAULT_IMAGE_SIZE = (128, 256)
"""Height and width, in pixels; divisible by every stride, so that maps have whole places."""
LARGEST_STRIDE = 128
"""Pixels; sizes are rounded up to multiples of it."""
# two-stage query models choose their queries among the places of the maps
_MANY_QUERIES = 300
_SIZE_FOR_MANY_QUERIES = (256, 384)
# it pools windows of 49x49 places
_SIZE_FOR_LARGE_POOLING = (512, 512)


def trial_image_size(model: BaseModel, config: dict, wanted: tuple[int, int]) -> tuple[int, int]:
    """The size that a model is made for, or has as many places as it wants; else the wanted one.

    Args:
        model: the built model.
        config: the dict that it was built from.
        wanted: height and width, in pixels; rounded up to multiples of the largest stride.
    """
    height, width = (-(-side // LARGEST_STRIDE) * LARGEST_STRIDE for side in wanted)
    return _size_of_heads(config) or _size_of_backbone(model, config, (height, width))


def _size_of_heads(config: dict) -> tuple[int, int] | None:
    for _, node in dicts_in(config, "model"):
        if type_name(node) == "SSDAnchorGenerator" and "input_size" in node:
            return _pair(node["input_size"])
        if type_name(node) == "LRASPPHead":
            return _SIZE_FOR_LARGE_POOLING
        if node.get("num_queries", 0) > _MANY_QUERIES:
            return _SIZE_FOR_MANY_QUERIES
    return None


def _size_of_backbone(model: BaseModel, config: dict, wanted: tuple[int, int]) -> tuple[int, int]:
    """Some vision transformers (BEiT, MAE) run on their own size only, others resize positions."""
    backbone = config.get("backbone") or {}
    if not backbone.get("img_size"):
        return wanted
    model.train(False)
    try:
        with torch.no_grad():
            model.backbone(torch.zeros(1, backbone.get("in_channels", 3), *wanted))
    except Exception:
        # whatever it was: a fault of the backbone itself comes again in the trial, and then counts
        return _pair(backbone["img_size"])
    return wanted


def _pair(size: Any) -> tuple[int, int]:
    sides = (size,) if isinstance(size, int) else tuple(size)
    return sides * 2 if len(sides) == 1 else sides
