"""Filling models from checkpoints, and saying what they took."""

import logging
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from xcit_dense.backbone import Backbone
from xcit_dense.errors import UserError
from xcit_dense.mm.console import tell
from xcit_dense.weights import (
    LoadReport,
    backbone_prefix,
    compare,
    convert_state_dict,
    identify,
    unwrap_checkpoint,
)

# of schedules and of groups of parameters: what changes in training, and what follows from it
_STATE = {
    "params", "param_names", "lr", "base_values", "last_step", "_global_step", "_last_value",
    "verbose",
}  # fmt: skip


def is_needed_to_predict(name: str) -> bool:
    """Whether a tensor of a model takes part in its predictions; slim checkpoints lack others."""
    return not name.startswith("auxiliary_head.")


def load_complete(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    source: object,
    is_needed: Callable[[str], bool] = is_needed_to_predict,
) -> None:
    """Load a state dict that has everything that is needed.

    Args:
        model: is filled in place.
        state_dict: may have parts that the model lacks, but no larger backbone.
        source: where it is from, for the messages.
        is_needed: tells by its name whether a tensor of the model must be there.

    Raises:
        UserError: a tensor is missing, has another shape, or has no place in the backbone.
    """
    try:
        fitted, _ = _fitted(model, state_dict)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    report = compare(model.state_dict(), fitted)
    _check_complete(report, source, is_needed)
    check_finite(fitted, source)
    for name in report.reshaped:
        fitted.pop(name)
    model.load_state_dict(fitted, strict=False)


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """See that no tensor has a NaN, of which only NaN can come.

    Raises:
        UserError: one has; names the first.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.isnan().any():
            raise UserError(f"{source}: {name} has values that are NaN: a training that failed")


def _check_complete(report: LoadReport, source: object, is_needed: Callable[[str], bool]) -> None:
    lacking = [name for name in report.missing if is_needed(name)]
    reshaped = [told for name, told in report.reshaped.items() if is_needed(name)]
    larger = [name for name in report.unexpected if name.startswith("backbone.")]
    for names, what in (
        (lacking, f"it lacks {len(lacking)} of {len(report.model_names)} tensors"),
        (reshaped, "tensors of another shape"),
        (larger, "tensors that have no place in the backbone"),
    ):
        if names:
            raise UserError(f"{source} does not fit the config: {what}, {names[0]} among them")


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Prepare a checkpoint for the model, and report what the model takes from it.

    Runs before the model is filled: for ``load_from``, for resuming and for testing. A bare XCiT
    (ImageNet weights) is put where the model has its backbone. A resume says what it does not
    restore, and what of the config has no effect, if there is any such thing.

    Args:
        complete: refuse a checkpoint that leaves random what the model predicts with.
    """

    # before the hooks that copy the state dict, such as EMAHook
    priority = "VERY_HIGH"

    def __init__(self, complete: bool = False) -> None:
        self.complete = complete

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the fitted tensors into ``checkpoint['state_dict']``.

        Raises:
            UserError: the checkpoint has no tensor of the model, or has the backbone of
                another network, or is not as complete as it must be.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        given = unwrap_checkpoint(checkpoint)
        name = runner._load_from or "the newest checkpoint of the work dir"
        try:
            state_dict, notes = _fitted(model, given)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        report = compare(model.state_dict(), state_dict)
        if not report.num_loaded:
            raise UserError(
                f"{name}: no tensor of the model; the keys begin with {sorted(given)[:3]}, the "
                f"model's with {sorted(report.model_names)[:3]}"
            )
        if self.complete:
            _check_complete(report, name, is_needed_to_predict)
            check_finite(state_dict, name)
        checkpoint["state_dict"] = state_dict
        if runner._resume:
            for note in _notes_on_resuming(runner, checkpoint, name):
                print_log(note, logger="current", level=logging.WARNING)
        if runner._resume and report.is_complete and not notes:
            return
        text = "\n  ".join([str(report), *notes])
        if report.is_complete:
            tell(text)
        else:
            print_log(text, logger="current", level=logging.WARNING)


def _fitted(model: nn.Module, given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the model's names, and notes on what was done to them."""
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    shapes = [{name: t.shape for name, t in each.items()} for each in (given, model.state_dict())]
    if shapes[0] == shapes[1]:  # our own
        return copy(given), []
    backbones = {
        f"{name}." if name else "": module
        for name, module in model.named_modules()
        if isinstance(module, Backbone)
    }
    is_bare_xcit = not backbone_prefix(given) and identify(convert_state_dict(given))
    if is_bare_xcit:
        given = {prefix + name: given[name] for prefix in backbones for name in given}
    state_dict = copy(given)  # with the versions of its modules, which torch attaches
    notes = []
    for prefix, backbone in backbones.items():
        names = [name for name in state_dict if name.startswith(prefix)]
        fitted = backbone.fit({name.removeprefix(prefix): state_dict.pop(name) for name in names})
        state_dict.update({prefix + name: tensor for name, tensor in fitted.state_dict.items()})
        notes += [f"{prefix}* {note}" for note in fitted.notes]
    return state_dict, notes


def _notes_on_resuming(runner: Runner, checkpoint: Mapping[str, Any], name: str) -> list[str]:
    """What of the config has no effect on a run that goes on, a sentence each.

    Raises:
        UserError: the checkpoint has no schedule to go on with.
    """
    schedulers, saved = runner.param_schedulers, checkpoint.get("param_schedulers")
    if schedulers and not saved:
        raise UserError(
            f"{name}: has no state of the schedule (param_schedulers). To start from its weights: "
            f"--cfg-options load_from={name}"
        )
    notes = []
    for last, reached in (("max_epochs", "epoch"), ("max_iters", "iter")):
        end, done = runner.cfg.get("train_cfg", {}).get(last), checkpoint["meta"][reached]
        if end is not None and done >= end:
            notes.append(
                f"nothing is left to train: {name} is of {reached} {done}, and train_cfg.{last} is "
                f"{end}"
            )
    if kept := _settings_that_stay(runner, checkpoint):
        notes.append(f"the checkpoint's settings go on, the config's have no effect: {kept}")
    return notes


def _settings_that_stay(runner: Runner, checkpoint: Mapping[str, Any]) -> str:
    """Settings of the optimizer and of the schedule that a resume takes from the checkpoint.

    Raises:
        UserError: the checkpoint has the state of another kind of schedule.
    """
    pairs = []
    optimizer = getattr(runner.optim_wrapper, "optimizer", None)
    groups = (checkpoint.get("optimizer") or {}).get("param_groups")
    if optimizer is not None and groups:
        pairs.append(("optimizer", groups[0], optimizer.param_groups[0]))
    saved, built = checkpoint.get("param_schedulers"), runner.param_schedulers
    if isinstance(saved, list) and isinstance(built, list):
        if len(saved) != len(built):
            return f"{len(saved)} and not {len(built)} parts of param_scheduler"
        for number, (state, scheduler) in enumerate(zip(saved, built, strict=True)):
            if lacking := scheduler.state_dict().keys() - state.keys():
                raise UserError(
                    f"param_schedulers.{number} of the checkpoint is of another kind than "
                    f"{type(scheduler).__name__}, or damaged (no {', '.join(sorted(lacking))}): "
                    "to start with this schedule, load_from the weights"
                )
            pairs.append((f"param_scheduler.{number}", state, scheduler.state_dict()))
    return ", ".join(
        f"{where}.{key}={given[key]!s:.60} (config: {wanted[key]!s:.60})"
        for where, given, wanted in pairs
        for key in wanted.keys() & given.keys() - _STATE
        if isinstance(wanted[key], int | float | str | list | tuple | dict)
        and given[key] != wanted[key]
    )
