"""Whether there is an optimizer, and what its weight decay is, and is not, applied to."""

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS, DefaultScope
from torch import nn

from xcit_dense.doctor.failure import failure
from xcit_dense.doctor.finding import Finding
from xcit_dense.doctor.quiet import quiet
from xcit_dense.doctor.trial_model import TrialModel
from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config_tree import type_name
from xcit_dense.mm.rules import TRANSFORMER_KEYS

_SPARED = ("temperature", "layer_scale")
_PARTS = ("constructor", "optimizer", "paramwise_cfg")
# built among the processes of a distributed training only
_DISTRIBUTED = ("ZeroRedundancyOptimizer",)


def optimizer_findings(trial: TrialModel, cfg: Config) -> list[Finding]:
    """Keys that match no parameter, an optimizer that fails, and decay where XCiT wants none."""
    wrapper = cfg.get("optim_wrapper") or {}
    paramwise = wrapper.get("paramwise_cfg") or {}
    keys = paramwise.get("custom_keys") or {}
    names = [f"{trial.prefix}{name}" for name, _ in trial.model.named_parameters()]
    if trial.prefix == "student.":
        names += [f"teacher.{name}" for name, _ in trial.model.named_parameters()]
    unmatched = [key for key in keys if not any(key in name for name in names)]
    findings = [_unmatched_finding(key, trial) for key in unmatched]
    optimizer = wrapper.get("optimizer")
    if not optimizer or type_name(optimizer) in _DISTRIBUTED:
        return findings
    try:
        built = _build(trial, cfg)
    except Exception as error:  # any constructor may refuse its arguments in any way
        return [*findings, failure("building the optimizer", error)]
    return findings + _decay_findings(trial, built)


def _build(trial: TrialModel, cfg: Config) -> torch.optim.Optimizer:
    """Without mixed precision, which wants a GPU."""
    parts = {key: cfg.optim_wrapper[key] for key in _PARTS if key in cfg.optim_wrapper}
    kind = cfg.optim_wrapper["optimizer"].get("type")
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")), quiet():
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            raise ValueError(f"{kind} is no optimizer that is registered")
        model = _whole_model(trial)
        return build_optim_wrapper(model, {"type": "OptimWrapper", **parts}).optimizer


def _unmatched_finding(key: str, trial: TrialModel) -> Finding:
    text = f"optim_wrapper.paramwise_cfg.custom_keys: {key!r} matches no parameter"
    if trial.others and not key.startswith(trial.prefix):
        others = ", ".join(trial.others)
        remedy = f"none is needed if it is for {others}, which are not built here"
        return Finding(text, remedy, is_wrong=False)
    # mm's own recipes have some for parts that their transformers do without
    has_xcit = any(isinstance(module, XCiT) for module in trial.model.modules())
    is_wrong = has_xcit or key not in TRANSFORMER_KEYS
    remedy = "take it out, or mend its name: what it was to do is not done"
    return Finding(text, remedy, is_wrong)


def _whole_model(trial: TrialModel) -> nn.Module:
    """With parameters called as in the whole model, which is not built."""
    name = trial.prefix.removesuffix(".")
    return nn.ModuleDict({name: trial.model}) if name else trial.model


def _decay_findings(trial: TrialModel, optimizer: torch.optim.Optimizer) -> list[Finding]:
    decayed = {
        id(parameter)
        for group in optimizer.param_groups
        if group.get("weight_decay")
        for parameter in group["params"]
    }
    of_xcit = [
        (name, parameter)
        for module in trial.model.modules()
        if isinstance(module, XCiT)
        for name, parameter in module.named_parameters()
    ]
    return [
        Finding(
            f"optim_wrapper: the {key} of XCiT is decayed",
            f"paramwise_cfg=dict(custom_keys=dict({key}=dict(decay_mult=0.0)))",
            is_wrong=False,
        )
        for key in _SPARED
        if any(key in name and id(parameter) in decayed for name, parameter in of_xcit)
    ]
