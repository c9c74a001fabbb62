"""The trial of a model: the model, built on random weights, what it did, and what was found."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import Tensor, nn

from xcit_dense.mm import rules
from xcit_dense.mm.config import dicts_in, module_prefix, type_name, unsynchronize

DEFAULT_IMAGE_SIZE = (128, 256)
"""Height and width, in pixels; divisible by every stride, so that maps have whole places."""
LARGEST_STRIDE = 128
"""Pixels; sizes are rounded up to multiples of it."""

MOST_LOSSES = 8
"""In a report; decoders of many layers have some for each."""

_REMEDIES = {
    "mmcv op": "install an mmcv with compiled ops, or do without this part",
    "ImportError: ": "install what is missing",
    "ModuleNotFoundError: ": "install what is missing",
    " registry": "mend the name, or name the module that registers it in custom_imports",
    "only one of size and size_divisor": "data_preprocessor=dict(size=(HEIGHT, WIDTH)), the crops'",
    "view size is not compatible": "XCiT's maps are channels-last: contiguous_outputs=True in it",
    "": "see the traceback: train.py on this config shows it",
}
"""What to do about a failure, by a part of its text; the first that is there counts."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """Something that a user should know of a model.

    Attributes:
        text: what was found, and where.
        remedy: what to do about it.
        is_wrong: whether training or prediction can not go well with it.
    """

    text: str
    remedy: str
    is_wrong: bool = True

    def __str__(self) -> str:
        return f"{'wrong' if self.is_wrong else 'mind'}: {self.text}\n  remedy: {self.remedy}"


def failure(what: str, error: Exception) -> Finding:
    """That a part of the trial, as ``a training step``, raised an error."""
    # mm asserts much without saying anything: then the line of code tells
    frames = traceback.extract_tb(error.__traceback__)
    lines = str(error).strip().splitlines() or [frames[-1].line or "" if frames else ""]
    text = f"{what} fails: {type(error).__name__}: {' '.join(lines[0].split())}"
    return Finding(text, next(remedy for part, remedy in _REMEDIES.items() if part in text))


@dataclass
class Trial:
    """A model, and what its checks have seen and found so far.

    Attributes:
        cfg: the whole config.
        findings: what a user should know, in the order of the checks.
        model: what is trained, on the CPU: the whole, or the detector inside of a tracker; None
            where it can not be built.
        config: the dict that it was built from.
        path: where that stands in ``cfg``.
        image_size: height and width of its images, in pixels.
        hindrance: why it can not be run, None if it can.
        levels: stride and width of each map that the backbone gives.
        readers: who reads each of them, as ``model.neck (in_channels 384)``.
        neck_levels: stride and width of each map that the neck makes.
        map_sizes: heights and widths of the maps that parts were given in training, by name.
        losses: of one training step, by name.
        flops: floating-point operations of a prediction on one image; a multiply-add is two.
    """

    cfg: Config
    findings: list[Finding] = field(default_factory=list)
    model: BaseModel | None = None
    config: dict = field(default_factory=dict)
    path: str = "model"
    image_size: Size = DEFAULT_IMAGE_SIZE
    hindrance: Exception | None = None
    levels: list[tuple[int, int]] = field(default_factory=list)
    readers: list[list[str]] = field(default_factory=list)
    neck_levels: list[tuple[int, int]] = field(default_factory=list)
    map_sizes: dict[str, list[Size]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    flops: int | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.is_wrong for finding in self.findings)

    @property
    def prefix(self) -> str:
        """What its parameters begin with in the whole model: ``detector.``, or nothing."""
        return module_prefix(self.cfg.model, self.path)

    @property
    def image_channels(self) -> int:
        """Channels of its images."""
        return (self.config.get("backbone") or {}).get("in_channels", 3)

    def run(self, part: Callable[[Tensor], Any]) -> list[tuple[int, int]]:
        """Stride and width of each map that a part makes of an image; none if it makes no maps."""
        self.model.train(False)
        with torch.no_grad():
            maps = maps_in(part(torch.zeros(1, self.image_channels, *self.image_size)))
        side = max(self.image_size)
        return [(round(side / max(each.shape[2:])), each.shape[1]) for each in maps]


def report(trial: Trial) -> str:
    """What a trial found, as text of several lines."""
    lines = []
    if trial.model is not None:
        parameters, of_backbone = (
            sum(parameter.numel() for parameter in part.parameters()) / 1e6
            for part in (trial.model, getattr(trial.model, "backbone", None) or nn.Identity())
        )
        lines.append(
            f"{type(trial.model).__name__}: {parameters:.2f} M parameters, "
            f"{of_backbone:.2f} M of them in the backbone"
        )
    if trial.flops is not None:
        height, width = trial.image_size
        lines.append(f"prediction of {height}x{width}: {trial.flops / 1e9:.2f} GFLOPs")
    if trial.levels:
        lines.append("level  stride  channels  read by")
    for index, (stride, width) in enumerate(trial.levels):
        who = ", ".join(trial.readers[index]) or "nobody"
        lines.append(f"{index:>5}  {stride:>6}  {width:>8}  {who}")
    if trial.neck_levels:
        strides = ", ".join(str(stride) for stride, _ in trial.neck_levels)
        lines.append(f"the neck makes maps of strides {strides}")
    if trial.losses:
        losses = [f"{name} {value:.3g}" for name, value in trial.losses.items()]
        more = len(losses) - MOST_LOSSES
        shown = ", ".join(losses[:MOST_LOSSES]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"losses of a step: {shown}")
    verdict = "healthy" if trial.hindrance is None else "no verdict"
    return "\n".join(
        [*lines, *map(str, trial.findings), verdict if trial.is_healthy else "not healthy"]
    )


def maps_in(value: Any) -> list[Tensor]:
    """The maps (B, C, H, W) among which there is nothing else; one may stand alone."""
    maps = list(value) if isinstance(value, (list, tuple)) else [value]
    are_maps = all(isinstance(each, Tensor) and each.ndim == 4 for each in maps)
    return maps if are_maps else []


def build_trial(cfg: Config, image_size: Size) -> Trial:
    """Build the model of a config, or the detector inside where that is what is trained.

    Weights are not loaded: paths and URLs of pretrained weights are taken out before.

    Args:
        cfg: the config; stays as it is.
        image_size: height and width, in pixels; rounded up to multiples of 128. A model that is
            made for one size takes that.
    """
    config, path = _what_is_trained(cfg)
    had_weights = [_forget_weights(node) for _, node in dicts_in(config)]
    unsynchronize(config)
    preprocessor = config["data_preprocessor"] or {}
    preprocessor.update({key: off for key, off in rules.PADDING.items() if preprocessor.get(key)})
    trial = Trial(cfg, model=MODELS.build(ConfigDict(config)), config=config, path=path)
    try:
        trial.model.init_weights()
    except Exception as error:  # such as SAN, which can only load its own
        if not any(had_weights):
            raise
        trial.hindrance = error
    trial.model = revert_sync_batchnorm(trial.model)
    trial.image_size = _image_size(trial, image_size)
    if getattr(trial.model.data_preprocessor, "size", None) is not None:
        trial.model.data_preprocessor.size = trial.image_size
    return trial


def _what_is_trained(cfg: Config) -> tuple[dict, str]:
    """A tracker or a semi-supervised model trains the detector that it has inside."""
    whole = cfg.to_dict()
    config, path = whole["model"], "model"
    if not isinstance(config, dict):
        raise ValueError("the config has no model")
    preprocessor = config.get("data_preprocessor") or whole.get("data_preprocessor")
    takes_videos = type_name(preprocessor or {}) == rules.VIDEO_PREPROCESSOR
    if isinstance(config.get("detector"), dict):
        config, path = config["detector"], "model.detector"
        if takes_videos:
            kept = rules.KEYS_OF_IMAGE_PREPROCESSORS
            preprocessor = {key: preprocessor[key] for key in kept if key in preprocessor}
            preprocessor["type"] = "DetDataPreprocessor"
    elif takes_videos:
        name = type_name(config)
        raise NotImplementedError(f"{name} takes videos, and the trial has images only")
    config["data_preprocessor"] = config.get("data_preprocessor") or preprocessor
    return config, path


def _forget_weights(node: dict) -> bool:
    """Take out pretrained weights; whether there were any."""
    keys = [key for key in rules.KEYS_OF_WEIGHTS if node.get(key)]
    if type_name(node) in rules.DOWNLOADING_BACKBONES:
        keys = ["pretrained"]
    # PVT's names a checkpoint, but no type
    if any("checkpoint" in init for _, init in dicts_in(node.get("init_cfg"))):
        keys.append("init_cfg")
    node.update(dict.fromkeys(keys))
    return bool(keys)


def _image_size(trial: Trial, wanted: Size) -> Size:
    """The size that the model is made for, or the wanted one."""
    for _, node in dicts_in(trial.config):
        name = type_name(node)
        if own := node.get(rules.KEYS_OF_SIZES.get(name)):
            return _pair(own)
        if name in rules.LEAST_SIZES:
            return rules.LEAST_SIZES[name]
        if node.get("num_queries", 0) > rules.MANY_QUERIES:
            return rules.SIZE_FOR_MANY_QUERIES
    trial.image_size = tuple(-(-side // LARGEST_STRIDE) * LARGEST_STRIDE for side in wanted)
    own = (trial.config.get("backbone") or {}).get("img_size")
    if own:
        try:
            trial.run(trial.model.backbone)
        except Exception:
            # BEiT and MAE run on their own size only, others resize their positions; a fault of
            # the backbone itself comes again in the trial, and then counts
            return _pair(own)
    return trial.image_size


def _pair(size: Any) -> Size:
    sides = (size,) if isinstance(size, int) else tuple(size)
    return sides * 2 if len(sides) == 1 else sides
