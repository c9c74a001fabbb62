"""A hook that stops a run at the first NaN or Inf, before it reaches the weights."""

import functools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import find_latest_checkpoint
from mmengine.structures import BaseDataElement

from xcit_dense.errors import UserError


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Checks the loss before it is sent backward, in all processes alike.

    Args:
        action: ``'stop'`` ends the run with :class:`UserError`. ``'skip'`` leaves the batch out:
            weights, optimizer and running statistics stay as they were. Of gradients that are
            accumulated, those of other batches count, unless the last one is skipped.
        max_skips: how many batches in a row may be skipped; one more ends the run.

    Raises:
        UserError: an unknown action, or ``max_skips`` below 1.
    """

    priority = "HIGHEST"  # before the log, the moving average and the checkpoint

    def __init__(self, action: str = "stop", max_skips: int = 10) -> None:
        if action not in ("stop", "skip") or max_skips < 1:
            raise UserError(
                f"FiniteLossHook: action={action!r} must be 'stop' or 'skip', and "
                f"max_skips={max_skips} 1 or more"
            )
        self.max_skips = max_skips if action == "skip" else 0
        self._skips_in_a_row = 0

    def before_train(self, runner: Any) -> None:
        """Put the check between the loss and its backward pass.

        Raises:
            UserError: there are several optimizers; the loss of a step is then not one.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            kind = type(wrapper).__name__
            raise UserError(f"FiniteLossHook checks one optimizer; with {kind}, leave it out")
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

        wrapper.update_params = update_if_finite

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Remember running statistics, which a forward pass changes even where it fails."""
        if self.max_skips:
            self._buffers = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop, or put the running statistics back, count and tell.

        Raises:
            UserError: the loss is not finite.
        """
        if self._all_finite:
            self._skips_in_a_row = 0
            return
        terms = ", ".join(
            f"{name} {torch.as_tensor(value).item():g}" for name, value in outputs.items()
        )
        own = "" if self._own_finite else f"{terms}; images {', '.join(image_paths(data_batch))}"
        where = (
            f"the loss is not finite at iteration {runner.iter + 1} (epoch {runner.epoch + 1}), "
            f"learning rate {max(runner.optim_wrapper.get_lr()['lr']):g}: "
            + "; ".join(filter(None, all_gather_object(own)))
        )
        if self._skips_in_a_row == self.max_skips:
            raise UserError(f"{where}. {_advice(runner)}")
        self._skips_in_a_row += 1
        for buffer, before in self._buffers:
            buffer.data.copy_(before)
        skipped = runner.message_hub.get_info("skipped_batches", 0) + 1
        runner.message_hub.update_info("skipped_batches", skipped)
        runner.message_hub.update_scalar("train/skipped_batches", skipped)
        print_log(
            f"skipped a batch ({skipped} so far, {self._skips_in_a_row} in a row, at most "
            f"{self.max_skips}): {where}",
            logger="current",
            level=logging.WARNING,
        )
        outputs.clear()  # else the averages in the log would be NaN for a while

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Refuse to save weights that are NaN or Inf: gradients can be so where the loss is not.

        Raises:
            UserError: some are; names the first.
        """
        for name, value in checkpoint["state_dict"].items():
            if isinstance(value, torch.Tensor) and not value.isfinite().all():
                raise UserError(
                    f"weights {name} are not finite after iteration {runner.iter + 1}, so no "
                    f"checkpoint is saved. {_advice(runner)}"
                )


def image_paths(batch: Any) -> Iterator[str]:
    """The paths of the images in a batch, which may have several branches."""
    if isinstance(batch, BaseDataElement):
        yield str(batch.get("img_path"))
    elif isinstance(batch, Mapping):
        yield from image_paths(list(batch.values()))
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            yield from image_paths(part)


def _advice(runner: Any) -> str:
    checkpoint = find_latest_checkpoint(runner.work_dir)
    start = f"go on with --resume {checkpoint}" if checkpoint else "no checkpoint yet: start anew"
    return f"To mend it, {start}, with a lower learning rate, clipped gradients or bfloat16"
