"""Filling models from checkpoints, and saying what they took."""

import logging
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn

from xcit_dense.errors import UserError
from xcit_dense.mm.backbone import XCiT
from xcit_dense.weights import (
    backbone_prefix,
    compare,
    convert_state_dict,
    identify,
    unwrap_checkpoint,
)
from xcit_dense.weights.published_weights import TIMM, load_from_http, load_from_timm
from xcit_dense.weights.safe_loading import load_from_local


def load_checkpoint(source: str) -> dict:
    """Load a checkpoint from a path, a URL or ``timm://NAME``, running none of its code.

    Addresses of other kinds are left to mmengine, which is safe once
    :mod:`xcit_dense.mm.mmengine_patches` is imported.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file cannot be fetched, is damaged or would run code.
    """
    if source.startswith(TIMM):
        return load_from_timm(source)
    if source.startswith(("http://", "https://")):
        return load_from_http(source, "cpu")
    if "://" in source:
        return CheckpointLoader.load_checkpoint(source, "cpu")
    return load_from_local(source, "cpu")


def load_pretrained(backbone: XCiT, source: str, prefix: str | None = None) -> None:
    """Load a checkpoint into a backbone and log a report.

    Args:
        backbone: is filled in place.
        source: as for :func:`load_checkpoint`.
        prefix: what stands before the names of the backbone in the checkpoint; None: ``backbone.``
            where the checkpoint has that, else nothing.

    Raises:
        UserError: the checkpoint has no tensor of this backbone, or is of another network.
    """
    tensors = unwrap_checkpoint(load_checkpoint(source))
    if prefix is None:
        prefix = backbone_prefix(tensors)
    elif prefix and not prefix.endswith("."):
        prefix += "."
    mine = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    try:
        fitted = backbone.fit(mine)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    if others := len(tensors) - len(mine):
        fitted.notes.append(f"left out on purpose: {others} of the rest of the model")
    report = compare(backbone.state_dict(), fitted.state_dict)
    if not report.num_loaded or report.reshaped:
        raise UserError(
            f"{source}: does not fit the backbone: its keys begin with {sorted(tensors)[:3]}, "
            f"looked for those under {prefix!r}; {report}"
        )
    backbone.load_state_dict(fitted.state_dict, strict=False)
    print_log("\n  ".join([f"{source}: {report}", *fitted.notes]), logger="current")


def load_complete(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    source: object,
    is_needed: Callable[[str], bool],
) -> list[str]:
    """Load a state dict that has everything that is needed.

    Args:
        model: is filled in place.
        state_dict: may have more than the model.
        source: where it is from, for the messages.
        is_needed: tells by its name whether a tensor of the model must be there.

    Returns:
        The names of the tensors that have no place in the model.

    Raises:
        UserError: a tensor is missing, or has another shape.
    """
    tensors = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:3])
        raise UserError(f"{source} does not fit the config: {reason}") from error
    lacking = [name for name in missing if is_needed(name) and "num_batches_tracked" not in name]
    if lacking:
        raise UserError(
            f"{source} does not fit the config: it lacks {len(lacking)} of "
            f"{len(model.state_dict())} tensors, {lacking[0]} among them"
        )
    return unexpected


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Prepare a checkpoint for the model, and report what the model takes from it.

    Runs before the model is filled: for ``load_from``, for resuming and for testing. A bare XCiT
    (ImageNet weights) is put where the model has its backbone. A complete resume says nothing.
    """

    # before the hooks that copy the state dict, such as EMAHook
    priority = "VERY_HIGH"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the fitted tensors into ``checkpoint['state_dict']``.

        Raises:
            UserError: the checkpoint has no tensor of the model, or has the backbone of
                another network.
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
        checkpoint["state_dict"] = state_dict
        if runner._resume and report.is_complete and not notes:
            return
        level = logging.INFO if report.is_complete else logging.WARNING
        print_log("\n  ".join([str(report), *notes]), logger="current", level=level)


def _fitted(model: nn.Module, given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the model's names, and notes on what was done to them."""
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    backbones = {
        f"{name}." if name else "": module
        for name, module in model.named_modules()
        if isinstance(module, XCiT)
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
