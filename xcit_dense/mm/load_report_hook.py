"""Seeing to it that a whole detector or segmentor takes what a checkpoint has, and saying so."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from xcit_dense.errors import UserError
from xcit_dense.mm.backbone import XCiT
from xcit_dense.weights import backbone_prefix, compare, identify, unwrap_checkpoint
from xcit_dense.weights.checkpoint_keys import rename_key


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Prepare a checkpoint for the model, and report what the model takes from it.

    Runs before the model is filled: for ``load_from``, for resuming and for testing. The published
    names of the backbone become ours, the file of a bare XCiT (ImageNet weights) is put where the
    model has its backbone, and the report tells, part by part, how many tensors are loaded. A
    complete resume says nothing.
    """

    # before the hooks that copy the state dict, such as EMAHook
    priority = "VERY_HIGH"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the fitted tensors into ``checkpoint['state_dict']``.

        Raises:
            UserError: the checkpoint has no tensor of the model, or has the backbone of
                another network.
        """
        model = _unwrapped(runner.model)
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
        checkpoint["state_dict"] = state_dict
        if runner._resume and report.is_complete and not notes:
            return
        level = logging.INFO if report.is_complete else logging.WARNING
        print_log("\n  ".join([str(report), *notes]), logger="current", level=level)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, as mmengine takes it for loading."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _fitted(model: nn.Module, given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the model's names, and notes on what was done to them."""
    versions = getattr(given, "_metadata", None)
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    backbones = dict(_backbones(model))
    if _is_bare_xcit(given):
        given = {prefix + name: given[name] for prefix in backbones for name in given}
    state_dict = OrderedDict(given)
    if versions is not None:  # by it modules know tensors of their own older versions
        state_dict._metadata = versions
    notes = []
    for prefix, backbone in backbones.items():
        names = [name for name in state_dict if name.startswith(prefix)]
        fitted = backbone.fit({name.removeprefix(prefix): state_dict.pop(name) for name in names})
        state_dict.update({prefix + name: tensor for name, tensor in fitted.state_dict.items()})
        notes += [f"{prefix}* {note}" for note in fitted.notes()]
    return state_dict, notes


def _backbones(model: nn.Module) -> Iterator[tuple[str, XCiT]]:
    """Every XCiT inside a model, with the prefix of its tensors."""
    for name, module in model.named_modules():
        if isinstance(module, XCiT):
            yield f"{name}." if name else "", module


def _is_bare_xcit(given: Mapping[str, Tensor]) -> bool:
    """Whether these are tensors of an XCiT alone, not of something that has one as its part."""
    if backbone_prefix(given).endswith("backbone."):
        return False
    return identify({rename_key(name): tensor for name, tensor in given.items()}) is not None
