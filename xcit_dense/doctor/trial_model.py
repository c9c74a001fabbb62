"""A model of a config, made ready for a trial: no weights from elsewhere, small images."""

import copy
from dataclasses import dataclass, replace

from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from xcit_dense.doctor.failure import failure
from xcit_dense.doctor.finding import Finding
from xcit_dense.doctor.image_size import trial_image_size
from xcit_dense.doctor.quiet import quiet
from xcit_dense.mm.config_tree import dicts_in, module_prefix, type_name, unsynchronize

_INITIALIZING = "without its pretrained weights, which the doctor leaves out, initializing"


@dataclass(frozen=True)
class TrialModel:
    """A model that a config makes, or the detector inside of a tracker.

    Attributes:
        model: on the CPU, batch norms not synchronized.
        config: its dict, as it was built.
        path: where that stands in the config.
        image_size: height and width that it takes, in pixels.
        hindrance: why nothing can be said of it, None if it can be tried.
        prefix: what its parameters are called in the whole model: ``detector.``, or nothing.
        others: parts of the whole model that are not built.
    """

    model: BaseModel
    config: dict
    path: str
    image_size: tuple[int, int]
    hindrance: Finding | None
    prefix: str = ""
    others: tuple[str, ...] = ()

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return (self.config.get("backbone") or {}).get("in_channels", 3)


def build_trial_model(cfg: Config, image_size: tuple[int, int]) -> TrialModel:
    """Build the model of a config, or the detector inside where that is what is trained.

    Weights are not loaded: paths and URLs of pretrained weights are taken out before.

    Args:
        cfg: the config; stays as it is.
        image_size: height and width, in pixels; rounded up to multiples of 128. A model bound to a
            size takes its own.
    """
    config, path = _what_is_trained(cfg)
    leaves_weights_out = False
    for _, node in dicts_in(config, path):
        leaves_weights_out |= _forget_weights(node)
    unsynchronize(config)
    _take_images_as_they_are(config)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")), quiet():
        model = MODELS.build(ConfigDict(config))
        hindrance = _initialize(model, leaves_weights_out=leaves_weights_out)
        model = revert_sync_batchnorm(model)
        image_size = trial_image_size(model, config, image_size)
    if getattr(model.data_preprocessor, "size", None) is not None:
        model.data_preprocessor.size = image_size
    prefix = module_prefix(cfg.model, path)
    others = _other_parts(cfg.model, path)
    return TrialModel(model, config, path, image_size, hindrance, prefix, others)


def _other_parts(model: dict, path: str) -> tuple[str, ...]:
    """What a tracker has beside the detector that is built: ``track_head``, ``tracker``."""
    if path == "model":
        return ()
    parts = (key for key, part in model.items() if isinstance(part, dict) and "type" in part)
    return tuple(key for key in parts if f"model.{key}" != path and key != "data_preprocessor")


def _initialize(model: BaseModel, leaves_weights_out: bool) -> Finding | None:
    """Give random weights; what is in the way where a model (SAN) can only load its own."""
    try:
        model.init_weights()
    except Exception as error:
        if not leaves_weights_out:
            raise
        failed = failure(_INITIALIZING, error)
        remedy = "none is known to be needed: no step is taken, and this is no verdict"
        return replace(failed, remedy=remedy, is_wrong=False)
    return None


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


def _forget_weights(node: dict) -> bool:
    """Take out pretrained weights; whether there were any."""
    keys = [key for key in ("pretrained", "teacher_ckpt") if node.get(key)]
    if type_name(node) == "TIMMBackbone":
        keys = ["pretrained"]  # which downloads if it is not told
    # PVT's names a checkpoint, but no type
    if any("checkpoint" in init for _, init in dicts_in(node.get("init_cfg"))):
        keys.append("init_cfg")
    for key in keys:
        node[key] = None
    return bool(keys)


def _take_images_as_they_are(config: dict) -> None:
    """Let nothing pad or resize the images to the size of real ones."""
    preprocessor = config.get("data_preprocessor") or {}
    for key, nothing in [
        ("batch_augments", None),
        ("test_cfg", None),
        ("pad_size_divisor", 1),
        ("size_divisor", 1),
    ]:
        if preprocessor.get(key):
            preprocessor[key] = nothing
