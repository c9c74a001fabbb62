"""A model of a config, made ready for a trial: no weights from elsewhere, small images."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from xcit_dense.openmmlab.config_tree import dicts_in, type_name

DEFAULT_IMAGE_SIZE = (128, 256)
"""Height and width, in pixels; divisible by every stride, so that maps have whole places."""
# two-stage query models choose their queries among the places of the maps
_MANY_QUERIES = 300
_SIZE_FOR_MANY_QUERIES = (256, 384)
# it pools windows of 49x49 places
_SIZE_FOR_LARGE_POOLING = (512, 512)


@dataclass(frozen=True)
class TrialModel:
    """A model that a config makes, or the detector inside of a tracker.

    Attributes:
        model: on the CPU, batch norms not synchronized.
        config: its dict, as it was built.
        path: where that stands in the config.
        image_size: height and width that it takes, in pixels.
    """

    model: BaseModel
    config: dict
    path: str
    image_size: tuple[int, int]


def build_trial_model(cfg: Config, image_size: tuple[int, int]) -> TrialModel:
    """Build the model of a config, or the detector inside where that is what is trained.

    Weights are not loaded: paths and URLs of pretrained weights are taken out before.

    Args:
        cfg: the config; stays as it is.
        image_size: height and width, in pixels; a model bound to a size takes its own.
    """
    config, path = _what_is_trained(cfg)
    for _, node in dicts_in(config, path):
        _forget_weights(node)
        if type_name(node) == "MMSyncBN":  # wants several processes when it is built
            node["type"] = "BN"
    image_size = _own_image_size(config) or image_size
    _take_images_of(config, image_size)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")), _quiet():
        model = MODELS.build(ConfigDict(config))
        model.init_weights()
    return TrialModel(revert_sync_batchnorm(model), config, path, image_size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without mmengine's lines on how each parameter was initialized."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _what_is_trained(cfg: Config) -> tuple[dict, str]:
    """A tracker or a semi-supervised model trains the detector that it has inside."""
    whole = cfg.to_dict()
    config, path = whole["model"], "model"
    if not isinstance(config, dict):
        raise ValueError("the config has no model")
    preprocessor = config.get("data_preprocessor") or whole.get("data_preprocessor")
    if isinstance(config.get("detector"), dict):
        config, path = config["detector"], "model.detector"
        preprocessor = _for_single_images(preprocessor)
    elif type_name(preprocessor or {}) == "TrackDataPreprocessor":
        raise NotImplementedError(
            f"{type_name(config)} takes videos, and the trial has images only"
        )
    config = copy.deepcopy(config)
    if not config.get("data_preprocessor"):
        config["data_preprocessor"] = preprocessor
    return config, path


def _for_single_images(preprocessor: dict | None) -> dict | None:
    """A preprocessor of videos, as one of images."""
    if preprocessor is None or type_name(preprocessor) != "TrackDataPreprocessor":
        return preprocessor
    kept = ("mean", "std", "bgr_to_rgb", "rgb_to_bgr", "pad_size_divisor", "pad_mask")
    return {"type": "DetDataPreprocessor"} | {k: preprocessor[k] for k in kept if k in preprocessor}


def _forget_weights(node: dict) -> None:
    for key in ("pretrained", "teacher_ckpt"):
        if isinstance(node.get(key), str):
            node[key] = None
    if "Pretrained" in str(node.get("init_cfg")):
        node["init_cfg"] = None


def _own_image_size(config: dict) -> tuple[int, int] | None:
    """The size for which a model is made, or which has as many places as it wants."""
    for _, node in dicts_in(config, "model"):
        if type_name(node) == "SSDAnchorGenerator" and "input_size" in node:
            return (node["input_size"],) * 2
        if type_name(node) == "LRASPPHead":
            return _SIZE_FOR_LARGE_POOLING
        if node.get("num_queries", 0) > _MANY_QUERIES:
            return _SIZE_FOR_MANY_QUERIES
    return None


def _take_images_of(config: dict, image_size: tuple[int, int]) -> None:
    """Let nothing pad or resize the images to the size of real ones."""
    preprocessor = config.get("data_preprocessor") or {}
    if preprocessor.get("size") is not None:
        preprocessor["size"] = image_size
    if preprocessor.get("batch_augments"):
        preprocessor["batch_augments"] = None
    if preprocessor.get("test_cfg"):
        preprocessor["test_cfg"] = None
