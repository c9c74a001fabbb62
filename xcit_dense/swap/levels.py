"""What a backbone gives, found by running it: no table of architectures can be complete."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from xcit_dense.errors import in_one_line
from xcit_dense.mm.config import type_name, unsynchronize
from xcit_dense.mm.rules import BOUND_BACKBONES, DOWNLOADING_BACKBONES
from xcit_dense.swap.error import BoundBackboneError, SwapError

_IMAGE_SIDE = 128  # pixels; divisible by every stride up to 128, so that these come out exact


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
    """

    name: str
    levels: tuple[Level, ...]

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
        BoundBackboneError: it is more than a backbone.
        SwapError: it can not be built or run here, or does not give plain maps.
    """
    name = type_name(config)
    if name in BOUND_BACKBONES:
        raise BoundBackboneError(path, f"{name} is more than a backbone: {BOUND_BACKBONES[name]}")
    config = {key: copy.deepcopy(value) for key, value in config.items() if key != "init_cfg"}
    unsynchronize(config)
    if "pretrained" in config or name in DOWNLOADING_BACKBONES:
        config["pretrained"] = None
    # plain vision transformers run on their own image size only
    side = config.get("img_size") or _IMAGE_SIDE
    side = max(side) if isinstance(side, Iterable) else side
    try:
        maps = _run_anywhere(config, scope, side)
    except Exception as error:  # a backbone may refuse its settings in any way
        sentence = in_one_line(error).partition(". ")[0]
        raise SwapError(path, f"{name} can not be run here: {sentence}") from error
    maps = maps if isinstance(maps, (list, tuple)) else (maps,)
    if not all(isinstance(tensor, Tensor) and tensor.ndim == 4 for tensor in maps):
        raise SwapError(path, f"{name} does not give plain maps (B, C, H, W), one a level")
    levels = tuple(Level(round(side / tensor.shape[-1]), tensor.shape[1]) for tensor in maps)
    return MeasuredBackbone(name, levels)


def _run_anywhere(config: dict, scope: str, side: int) -> Any:
    """Run on the device ``meta``, which computes nothing, or on the CPU where that fails."""
    try:
        return _run(config, scope, side, "meta")
    except Exception:
        # whatever it was: a fault of the backbone itself comes again, and then counts
        return _run(config, scope, side, "cpu")


def _run(config: dict, scope: str, side: int, device: str) -> Any:
    with torch.device(device), torch.no_grad(), DefaultScope.overwrite_default_scope(scope):
        backbone = MODELS.build(dict(config))
        backbone.train(False)
        return backbone(torch.zeros(1, config.get("in_channels", 3), side, side))
