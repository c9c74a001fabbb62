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

from xcit_dense.errors import Finding
from xcit_dense.mm.config import dicts_in, module_prefix, trained_part, type_name
from xcit_dense.swap import rules
from xcit_dense.swap.levels import Level, levels_of, without_weights

DEFAULT_IMAGE_SIZE = (128, 256)
"""Height and width, in pixels; divisible by every stride, so that maps have whole places."""
_LARGEST_STRIDE = 128

_REMEDIES = {
    "mmcv op": "install an mmcv with compiled ops, or do without this part",
    "ImportError: ": "install what is missing",
    "ModuleNotFoundError: ": "install what is missing",
    " registry": "mend the name, or name the module that registers it in custom_imports",
    "only one of size and size_divisor": "data_preprocessor=dict(size=(HEIGHT, WIDTH)), the crops'",
    "view size is not compatible": "XCiT's maps are channels-last: contiguous_outputs=True in it",
    "": "XCIT_DENSE_TRACEBACK=1 tools/train.py on this config shows where",
}
"""What to do about a failure, by a part of its text; the first that is there counts."""

Size = tuple[int, int]


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
        levels: the maps that the backbone gives.
        readers: who reads each of them, as ``model.neck (in_channels 384)``.
        neck_levels: the maps that the neck makes.
        map_sizes: heights and widths of the maps that a part was first given, by its name.
        losses: of one training step, by name.
        flops: floating-point operations of a prediction on one image; a multiply-add is two.
    """

    cfg: Config
    findings: list[Finding] = field(default_factory=list)
    model: BaseModel | None = None
    config: dict = field(default_factory=dict)
    path: str = "model"
    image_size: Size = DEFAULT_IMAGE_SIZE
    levels: list[Level] = field(default_factory=list)
    readers: list[list[str]] = field(default_factory=list)
    neck_levels: list[Level] = field(default_factory=list)
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

    def run(self, part: Callable[[Tensor], Any]) -> list[Level]:
        """The levels that a part makes of an image; none if it makes no maps."""
        self.model.train(False)
        with torch.no_grad():
            maps = part(torch.zeros(1, self.image_channels, *self.image_size))
        return levels_of(maps, max(self.image_size))


def report(trial: Trial) -> str:
    """What a trial found, as text of several lines."""
    lines = []
    if trial.model is not None:
        parameters, of_backbone = (
            sum(parameter.numel() for parameter in part.parameters()) / 1e6
            for part in (trial.model, getattr(trial.model, "backbone", None) or nn.Identity())
        )
        has = f"{parameters:.2f} M parameters, {of_backbone:.2f} M of them in the backbone"
        lines.append(f"{type(trial.model).__name__}: {has}")
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
        lines.append(f"losses of a step: {', '.join(losses)}")
    lines += [str(finding) for finding in trial.findings]
    return "\n".join([*lines, "healthy" if trial.is_healthy else "not healthy"])


def build_trial(cfg: Config, image_size: Size) -> Trial:
    """Build the model of a config, or the detector inside where that is what is trained.

    It starts from random weights. The size of the images is rounded up to multiples of 128; a model
    that is made for one size takes that.
    """
    config, path = _what_is_trained(cfg)
    config = without_weights(config)
    preprocessor = config["data_preprocessor"] or {}
    preprocessor.update({key: off for key, off in rules.PADDING.items() if preprocessor.get(key)})
    model = MODELS.build(ConfigDict(config))
    model.init_weights()
    size = _image_size(config, image_size)
    if getattr(model.data_preprocessor, "size", None) is not None:
        model.data_preprocessor.size = size
    return Trial(cfg, [], revert_sync_batchnorm(model), config, path, size)


def _what_is_trained(cfg: Config) -> tuple[dict, str]:
    """A tracker or a semi-supervised model trains the detector that it has inside."""
    whole = cfg.to_dict()
    config = whole["model"]
    if not isinstance(config, dict):
        raise ValueError("the config has no model")
    preprocessor = config.get("data_preprocessor") or whole.get("data_preprocessor")
    takes_videos = type_name(preprocessor or {}) == rules.VIDEO_PREPROCESSOR
    inner, path = trained_part(config)
    if inner is not config:
        config = inner
        if takes_videos:
            kept = {key: preprocessor[key] for key in rules.IMAGE_KEYS if key in preprocessor}
            preprocessor = {"type": "DetDataPreprocessor", **kept}
    elif takes_videos:
        raise NotImplementedError(f"{type_name(config)} takes videos; the trial has only images")
    config["data_preprocessor"] = config.get("data_preprocessor") or preprocessor
    return config, path


def _image_size(config: dict, wanted: Size) -> Size:
    """The size that a model is made for, or the wanted one."""
    for _, node in dicts_in(config):
        name = type_name(node)
        if own := node.get(rules.KEYS_OF_SIZES.get(name)):
            return (own, own) if isinstance(own, int) else tuple(own)
        if name in rules.LEAST_SIZES:
            return rules.LEAST_SIZES[name]
        if node.get("num_queries", 0) > rules.MANY_QUERIES:
            return rules.SIZE_FOR_MANY_QUERIES
    return tuple(max(-(-side // _LARGEST_STRIDE), 1) * _LARGEST_STRIDE for side in wanted)
