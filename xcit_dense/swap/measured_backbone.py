"""What a backbone gives, found by running it: no table of architectures can be complete."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from xcit_dense.mm.config_tree import type_name, unsynchronize
from xcit_dense.swap.swap_error import SwapError

IMAGE_SIDE = 128
"""Pixels; divisible by every stride up to 128, so that strides come out exact."""


@dataclass(frozen=True)
class Level:
    """One of the maps that a backbone gives.

    Attributes:
        stride: pixels of the image to one place of the map.
        channels: width of the map.
    """

    stride: int
    channels: int


@dataclass(frozen=True)
class MeasuredBackbone:
    """What a backbone gives.

    Attributes:
        name: its class.
        levels: its maps, in its order.
        parameter_names: as in the whole model, ``backbone.layer1.0.conv1.weight``.
    """

    name: str
    levels: tuple[Level, ...]
    parameter_names: tuple[str, ...]

    @property
    def channels(self) -> list[int]:
        """Width of each level."""
        return [level.channels for level in self.levels]


def measure_backbone(config: dict, scope: str, path: str) -> MeasuredBackbone:
    """Build a backbone without its weights, and run it on a small image.

    Args:
        config: the backbone's dict.
        scope: the registry that knows it, ``mmdet`` or ``mmseg``.
        path: where it stands, for errors.

    Raises:
        SwapError: it can not be built or run here, or does not give plain maps.
    """
    name = type_name(config)
    # detectors fill in the ones that they know better; none of them changes what comes out
    config = {key: copy.deepcopy(value) for key, value in config.items() if key != "init_cfg"}
    unsynchronize(config)
    if "pretrained" in config or name == "TIMMBackbone":  # which downloads if it is not told
        config["pretrained"] = None
    side = _image_side(config)
    try:
        backbone, maps = _run_anywhere(config, scope, side)
    except Exception as error:
        sentence = (str(error).strip().splitlines() or [""])[0].partition(". ")[0]
        reason = f"{name} can not be run here: {type(error).__name__}: {sentence}"
        raise SwapError(path, reason) from error
    if isinstance(maps, Tensor):
        maps = (maps,)
    if not _are_maps(maps):
        raise SwapError(path, f"{name} does not give plain maps (B, C, H, W), one a level")
    levels = tuple(Level(round(side / tensor.shape[-1]), tensor.shape[1]) for tensor in maps)
    names = tuple(f"backbone.{name}" for name, _ in backbone.named_parameters())
    return MeasuredBackbone(name, levels, names)


def _image_side(config: dict) -> int:
    """Plain vision transformers run on their own image size only."""
    side = config.get("img_size") or IMAGE_SIDE
    return max(side) if isinstance(side, Iterable) else side


def _run_anywhere(config: dict, scope: str, side: int) -> tuple[nn.Module, Any]:
    """Run on the device ``meta``, which computes nothing, or on the CPU where that fails."""
    try:
        return _run(config, scope, side, "meta")
    except Exception:
        # whatever it was: a fault of the backbone itself comes again, and then counts
        return _run(config, scope, side, "cpu")


def _run(config: dict, scope: str, side: int, device: str) -> tuple[nn.Module, Any]:
    with torch.device(device), torch.no_grad(), DefaultScope.overwrite_default_scope(scope):
        backbone = MODELS.build(dict(config))
        backbone.train(False)
        return backbone, backbone(torch.zeros(1, config.get("in_channels", 3), side, side))


def _are_maps(maps: Any) -> bool:
    return isinstance(maps, (list, tuple)) and all(
        isinstance(tensor, Tensor) and tensor.ndim == 4 for tensor in maps
    )
