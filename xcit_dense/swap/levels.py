"""The levels that a backbone gives, found by running it, and the errors that say where one fails.

No table of architectures can be complete.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config import dicts_in, type_name, unsynchronize
from xcit_dense.swap import rules

_IMAGE_SIDE = 128  # pixels; divisible by every stride up to 128, so that these come out exact


class SwapError(UserError):
    """The backbone of this config can not be swapped, or it is not understood how.

    Says where in the config, as ``model.neck.in_channels``, and what is in the way there.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class BoundBackboneError(SwapError):
    """The model has nothing that another backbone could take the place of."""


@contextmanager
def located(path: str) -> Iterator[None]:
    """Name the place where a value of an unexpected kind stands, whatever it makes fail.

    Raises:
        SwapError: something inside has failed.
    """
    try:
        yield
    except SwapError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"what stands there is not understood ({in_one_line(error)})"
        raise SwapError(path, reason) from error


class Level(NamedTuple):
    """One of the maps of a backbone: pixels of the image to one place of it, and its width."""

    stride: int
    channels: int


class MeasuredBackbone(NamedTuple):
    """The class of a backbone, and its maps, in its order."""

    name: str
    levels: tuple[Level, ...]

    @property
    def channels(self) -> list[int]:
        """Width of each level."""
        return [level.channels for level in self.levels]


def measure_backbone(config: dict, scope: str, path: str) -> MeasuredBackbone:
    """Build a backbone without its weights, and run it on a small image.

    ``scope`` is the registry that knows it, ``mmdet`` or ``mmseg``; ``path`` is told in errors.

    Raises:
        BoundBackboneError: it is more than a backbone.
        SwapError: it can not be built or run here, or does not give plain maps.
    """
    name = type_name(config)
    if name in rules.BOUND_BACKBONES:
        why = rules.BOUND_BACKBONES[name]
        raise BoundBackboneError(path, f"{name} is more than a backbone: {why}")
    config = without_weights(config)
    # plain vision transformers run on their own image size only
    side = config.get("img_size") or _IMAGE_SIDE
    side = max(side) if isinstance(side, Iterable) else side
    image = torch.zeros(1, config.get("in_channels", 3), side, side)
    try:
        with torch.no_grad(), DefaultScope.overwrite_default_scope(scope):
            backbone = MODELS.build(config)
            backbone.train(False)
            levels = levels_of(backbone(image), side)
    except Exception as error:  # a backbone may refuse its settings in any way
        sentence = in_one_line(error).partition(". ")[0]
        raise SwapError(path, f"{name} can not be run here: {sentence}") from error
    if not levels:
        raise SwapError(path, f"{name} does not give plain maps (B, C, H, W), one a level")
    return MeasuredBackbone(name, tuple(levels))


def without_weights(config: dict) -> dict:
    """A copy of the dict of a part, to build it here: no weights are fetched for it.

    Norms that want several processes become plain ones.
    """
    config = copy.deepcopy(config)
    for _, node in dicts_in(config):
        keys = [key for key in rules.KEYS_OF_WEIGHTS if node.get(key)]
        if type_name(node) in rules.DOWNLOADING_BACKBONES:
            keys = ["pretrained"]
        # PVT's names a checkpoint, but no type
        if any("checkpoint" in init for _, init in dicts_in(node.get("init_cfg"))):
            keys.append("init_cfg")
        node.update(dict.fromkeys(keys))
    unsynchronize(config)
    return config


def maps_in(value: Any) -> list[Tensor]:
    """The maps (B, C, H, W) among which there is nothing else; one may stand alone."""
    maps = list(value) if isinstance(value, (list, tuple)) else [value]
    are_maps = all(isinstance(each, Tensor) and each.ndim == 4 for each in maps)
    return maps if are_maps else []


def levels_of(value: Any, side: int) -> list[Level]:
    """The levels of the maps in a value, made of an image with a longer side of this length."""
    return [Level(round(side / max(each.shape[2:])), each.shape[1]) for each in maps_in(value)]
