"""A hook that stops a run at the first NaN or Inf, before it reaches the weights."""

import functools
import logging
import os.path as osp
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import find_latest_checkpoint

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.mm.batch_record import image_paths, plain

ACTIONS = ("stop", "skip")


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Checks the loss before it is sent backward, in all processes alike.

    ``'stop'`` ends the run with :class:`UserError` and keeps the batch, loadable with
    ``torch.load``, as ``nonfinite_batch_iter_N.pth`` in the work dir. ``'skip'`` leaves the batch
    out: weights, optimizer and running statistics stay as they were. Of gradients that are
    accumulated, those of the other batches still count, unless the last one is skipped.

    A gradient can be NaN where the loss is not. Its norm is known where gradients are clipped by
    norm, and ends the run after that step; besides, weights that are NaN are never saved.

    Args:
        action: ``'stop'`` or ``'skip'``.
        max_skips: how many batches in a row may be skipped; one more ends the run.

    Raises:
        ValueError: an unknown action, or ``max_skips`` below 1.
    """

    priority = "HIGHEST"  # before the log, the moving average and the checkpoint

    def __init__(self, action: str = "stop", max_skips: int = 10) -> None:
        if action not in ACTIONS:
            raise ValueError(f"action={action!r}: wanted one of {', '.join(ACTIONS)}")
        if max_skips < 1:
            raise ValueError(f"max_skips={max_skips}: wanted 1 or more")
        self.action = action
        self.max_skips = max_skips
        self._skips_in_a_row = 0

    def before_train(self, runner: Any) -> None:
        """Put the check between the loss and its backward pass.

        Raises:
            TypeError: there are several optimizers; the loss of a step is then not one.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(
                f"FiniteLossHook works with one optimizer, not with {type(wrapper).__name__}: "
                "take it out of custom_hooks"
            )
        wrapper.update_params = self._guarded(wrapper)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Remember running statistics, which a forward pass changes even where it fails."""
        if self.action == "skip":
            self._buffers = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop, or count what was skipped.

        Raises:
            UserError: the loss or the norm of the gradients is not finite.
        """
        if self._all_finite:
            self._skips_in_a_row = 0
            self._check_gradient_norm(runner)
            return
        self._skips_in_a_row += 1
        if self.action == "skip" and self._skips_in_a_row <= self.max_skips:
            self._skip(runner, data_batch, outputs)
        else:
            self._stop(runner, data_batch, outputs)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Refuse to save weights that are NaN.

        Raises:
            UserError: some are; names the first.
        """
        for name, value in checkpoint["state_dict"].items():
            if isinstance(value, torch.Tensor) and value.isnan().any():
                raise UserError(
                    f"weights {name} are NaN after iteration {runner.iter + 1}, so no checkpoint "
                    f"is saved. {_advice(runner)}"
                )

    def _guarded(self, wrapper: OptimWrapper) -> Callable[..., None]:
        """``update_params`` that does nothing with a loss that is not finite somewhere."""
        update_params = wrapper.update_params

        @functools.wraps(update_params)
        def update_if_finite(loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            finite = torch.isfinite(loss.detach()).all().float()
            self._own_finite = bool(finite)
            all_reduce(finite, "min")
            self._all_finite = bool(finite)
            if self._all_finite:
                update_params(loss, *args, **kwargs)
                return
            wrapper._inner_count += 1  # what mmengine asks of every backward pass
            if wrapper.should_update():
                wrapper.zero_grad()

        return update_if_finite

    def _check_gradient_norm(self, runner: Any) -> None:
        norm = runner.message_hub.log_scalars.get("train/grad_norm")
        scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
        if norm is None or (scaler is not None and scaler.is_enabled()):
            return  # a loss scaler leaves steps with such gradients out by itself
        if not torch.isfinite(torch.tensor(norm.current())):
            raise UserError(
                f"the norm of the gradients is {norm.current()} at iteration {runner.iter + 1} "
                f"with a finite loss, and the weights are spoilt by it. {_advice(runner)}"
            )

    def _skip(self, runner: Any, batch: Any, outputs: dict) -> None:
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)
        hub = runner.message_hub
        skipped = hub.get_info("skipped_batches", 0) + 1
        hub.update_info("skipped_batches", skipped)
        hub.update_scalar("train/skipped_batches", skipped)
        print_log(
            f"skipped a batch ({skipped} so far, {self._skips_in_a_row} in a row, at most "
            f"{self.max_skips}): {self._description(runner, batch, outputs)}",
            logger="current",
            level=logging.WARNING,
        )
        outputs.clear()  # else the averages in the log would be NaN for a while

    def _stop(self, runner: Any, batch: Any, outputs: dict) -> None:
        kept = "" if self._own_finite else self._keep(runner, batch, outputs)
        description = self._description(runner, batch, outputs, kept)
        raise UserError(f"{description}. {_advice(runner)}")

    def _description(self, runner: Any, batch: Any, outputs: dict, kept: str = "") -> str:
        """Where it happened, the same in all processes: loss terms, learning rates, images."""
        own = ""
        if not self._own_finite:
            terms = ", ".join(f"{name} {value:g}" for name, value in _numbers(outputs).items())
            images = ", ".join(image_paths(batch)) or "unknown"
            own = f"{_process()}{terms}; images {images}{kept}"
        culprits = "; ".join(text for text in all_gather_object(own) if text)
        return (
            f"the loss is not finite at iteration {runner.iter + 1} (epoch {runner.epoch + 1}), "
            f"learning rate {_learning_rates(runner.optim_wrapper)}: {culprits}"
        )

    def _keep(self, runner: Any, batch: Any, outputs: dict) -> str:
        """Write the batch to the work dir; says where, or why not."""
        rank = f"_rank_{get_rank()}" if get_world_size() > 1 else ""
        name = f"nonfinite_batch_iter_{runner.iter + 1}{rank}.pth"
        path = osp.join(runner.work_dir, name)
        record = {
            "iteration": runner.iter + 1,
            "epoch": runner.epoch + 1,
            "losses": _numbers(outputs),
            "batch": plain(batch),
        }
        try:
            write_atomically(path, functools.partial(torch.save, record))
        except OSError as error:
            return f"; the batch could not be kept ({error})"
        return f"; batch kept in {path}"


def _numbers(outputs: dict) -> dict[str, float]:
    return {name: torch.as_tensor(value).detach().item() for name, value in outputs.items()}


def _process() -> str:
    return f"process {get_rank()}: " if get_world_size() > 1 else ""


def _learning_rates(wrapper: OptimWrapper) -> str:
    rates = wrapper.get_lr()["lr"]
    low, high = min(rates), max(rates)
    return f"{high:g}" if low == high else f"{low:g} to {high:g}"


def _advice(runner: Any) -> str:
    checkpoint = find_latest_checkpoint(runner.work_dir)
    start = f"go on with --resume {checkpoint}" if checkpoint else "no checkpoint yet: start anew"
    return f"To mend it, {start}, with a lower learning rate, clipped gradients or bfloat16"
