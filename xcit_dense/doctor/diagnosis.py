"""A trial of a model: build it, take a training step, predict, and say what was found."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import Tensor

from xcit_dense.doctor.declared_strides import parts_with_strides, stride_findings
from xcit_dense.doctor.failure import failure
from xcit_dense.doctor.finding import Finding
from xcit_dense.doctor.image_size import DEFAULT_IMAGE_SIZE
from xcit_dense.doctor.levels import LevelTable, measure_levels, measure_neck
from xcit_dense.doctor.map_sizes import sizes_of_given_maps
from xcit_dense.doctor.optimizer_keys import optimizer_findings
from xcit_dense.doctor.synthetic_batch import synthetic_batch
from xcit_dense.doctor.trial_model import TrialModel, build_trial_model
from xcit_dense.flop_count import count_flops
from xcit_dense.mm.config_tree import model_scope

_STEP = "a training step"


@dataclass
class Diagnosis:
    """What a trial of a model found.

    Attributes:
        findings: what a user should know, in the order of the trial.
        model_name: class of the model, None if it could not be built.
        image_size: height and width of the images, in pixels.
        parameters: number of parameters.
        backbone_parameters: those of the backbone.
        flops: floating-point operations of a prediction on one image; a multiply-add is two.
        losses: of one training step, by name.
        levels: what the backbone gives and who reads it.
        is_tried: whether it could be tried; else nothing is known but the findings.
    """

    findings: list[Finding] = field(default_factory=list)
    model_name: str | None = None
    image_size: tuple[int, int] = DEFAULT_IMAGE_SIZE
    parameters: int = 0
    backbone_parameters: int = 0
    flops: int | None = None
    losses: dict[str, float] = field(default_factory=dict)
    levels: LevelTable | None = None
    is_tried: bool = True

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.is_wrong for finding in self.findings)


def diagnose(cfg: Config, image_size: tuple[int, int] = DEFAULT_IMAGE_SIZE) -> Diagnosis:
    """Build the model of a config on the CPU, take one training step and predict one image.

    The images are random, the weights too. What goes wrong is found, not raised.

    Args:
        cfg: the config; stays as it is.
        image_size: height and width, in pixels; rounded up to multiples of 128.
    """
    diagnosis = Diagnosis()
    torch.manual_seed(0)
    trial = _attempt(diagnosis, "building the model", lambda: build_trial_model(cfg, image_size))
    if trial is None:
        return diagnosis
    diagnosis.model_name = type(trial.model).__name__
    diagnosis.image_size = trial.image_size
    diagnosis.parameters = _count(trial.model)
    diagnosis.backbone_parameters = _count(getattr(trial.model, "backbone", None))
    diagnosis.findings += optimizer_findings(trial, cfg)
    if trial.hindrance is not None:
        diagnosis.is_tried = False
        diagnosis.findings.append(trial.hindrance)
        return diagnosis

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        _try_levels(trial, diagnosis)
        with sizes_of_given_maps(parts_with_strides(trial.model)) as given:
            step = _attempt(diagnosis, _STEP, lambda: _try_step(trial, cfg, diagnosis))
        diagnosis.findings += stride_findings(trial, given)
        if step is not None:
            diagnosis.losses = step
            diagnosis.findings += _loss_findings(step) + _gradient_findings(trial, cfg)
        counted = _attempt(diagnosis, "a prediction", lambda: _prediction(trial, cfg))
        if counted is not None:
            diagnosis.flops = counted
    return diagnosis


def _try_levels(trial: TrialModel, diagnosis: Diagnosis) -> None:
    what = "running backbone and neck"
    levels = diagnosis.levels = _attempt(diagnosis, what, lambda: measure_levels(trial))
    if levels is not None:
        diagnosis.findings += levels.findings
        if levels.fits:
            levels.neck = _attempt(diagnosis, what, lambda: measure_neck(trial))


def _attempt(diagnosis: Diagnosis, what: str, action: Callable[[], Any]) -> Any:
    """What the action returns; None, and a finding, if it fails in whatever way."""
    try:
        return action()
    except Exception as error:
        diagnosis.findings.append(failure(what, error))
        return None


def _count(module: torch.nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


def _try_step(trial: TrialModel, cfg: Config, diagnosis: Diagnosis) -> dict[str, float]:
    """A training step; one without pixels that are to be ignored where they make it fail."""
    try:
        return _training_step(trial, cfg)
    except Exception as error:  # of mm's own losses some take no such pixels
        if model_scope(cfg) != "mmseg":
            raise
        try:
            losses = _training_step(trial, cfg, ignores=False)
        except Exception:
            raise error from None
        text = failure(f"{_STEP} with pixels that are to be ignored", error).text
        remedy = "see that no image has any, padding included; class_weight is a likely cause"
        diagnosis.findings.append(Finding(text, remedy, is_wrong=False))
        return losses


def _training_step(trial: TrialModel, cfg: Config, ignores: bool = True) -> dict[str, float]:
    """Losses of a batch of two, and their gradients in the parameters."""
    model = trial.model
    model.zero_grad()
    model.train()
    _say_that_it_is_the_first_step(model)
    data = synthetic_batch(trial, cfg, batch_size=2, ignores=ignores)
    batch = model.data_preprocessor(data, training=True)
    losses = model(**batch, mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    return {name: float(_total(value)) for name, value in losses.items() if "loss" in name}


def _say_that_it_is_the_first_step(model: BaseModel) -> None:
    """Some heads learn otherwise in later epochs; a runner and mmdet's SetEpochInfoHook tell."""
    hub = MessageHub.get_current_instance()
    for count in ("epoch", "iter"):
        if hub.get_info(count) is None:
            hub.update_info(count, 0)
    if hasattr(model, "set_epoch"):
        model.set_epoch(0)


def _total(loss: Tensor | list[Tensor]) -> Tensor:
    losses = loss if isinstance(loss, list) else [loss]
    return sum(tensor.detach().mean() for tensor in losses)


def _loss_findings(losses: dict[str, float]) -> list[Finding]:
    return [
        Finding(
            f"{name} is {value} in the first step",
            "look for a wrong width, stride or number of classes in this head",
        )
        for name, value in losses.items()
        if not math.isfinite(value)
    ] + [
        Finding(
            f"{name} is {value} in the first step",
            "most losses are never negative: see that this one gets what it is made for (IoU "
            "losses of decoded boxes want reg_decoded_bbox=True)",
            is_wrong=False,
        )
        for name, value in losses.items()
        if -math.inf < value < 0
    ]


def _gradient_findings(trial: TrialModel, cfg: Config) -> list[Finding]:
    without = [
        name
        for name, parameter in trial.model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if not without:
        return []
    named = ", ".join(without[:4]) + (f" and {len(without) - 4} more" if len(without) > 4 else "")
    return [
        Finding(
            f"no gradient in {len(without)} parameters: {named}",
            "distributed training waits for them for ever: take out the part that nobody reads, "
            "or set find_unused_parameters=True",
            is_wrong=not _looks_for_unused(cfg),
        )
    ]


def _looks_for_unused(cfg: Config) -> bool:
    """As mmengine's runner: the wrapper's own setting counts where a wrapper is told."""
    wrapper = cfg.get("model_wrapper_cfg")
    return (cfg if wrapper is None else wrapper).get("find_unused_parameters", False)


def _prediction(trial: TrialModel, cfg: Config) -> int:
    """Floating-point operations of predicting one image."""
    model = trial.model
    model.train(False)
    if model_scope(cfg) != "mmseg":
        # here, since it needs pycocotools, which comes with mmdet
        from xcit_dense.predict import encode_masks_in_boxes

        encode_masks_in_boxes(model)  # mmdet's own way fails where boxes miss a small image
    batch = model.data_preprocessor(synthetic_batch(trial, cfg, batch_size=1), training=False)
    with torch.no_grad():
        return count_flops(lambda: model(**batch, mode="predict"))[0]
