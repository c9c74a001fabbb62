"""A hook that stops a run at the first NaN or Inf, before it reaches the weights."""

import functools
import logging
import os.path as osp
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import find_latest_checkpoint
from mmengine.structures import BaseDataElement

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Checks the loss before it is sent backward, in all processes alike.

    Args:
        action: ``'stop'`` ends the run with :class:`UserError` and keeps the batch, loadable with
            ``torch.load``, as ``nonfinite_batch_iter_N.pth`` in the work dir. ``'skip'`` leaves the
            batch out: weights, optimizer and running statistics stay as they were. Of gradients
            that are accumulated, those of other batches count, unless the last one is skipped.
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
        self.action = action
        self.max_skips = max_skips
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
            UserError: the loss is not finite.
        """
        if self._all_finite:
            self._skips_in_a_row = 0
            return
        self._skips_in_a_row += 1
        stops = self.action == "stop" or self._skips_in_a_row > self.max_skips
        own = "" if self._own_finite else _description(runner, data_batch, outputs, keep=stops)
        where = (
            f"the loss is not finite at iteration {runner.iter + 1} (epoch {runner.epoch + 1}), "
            f"learning rate {max(runner.optim_wrapper.get_lr()['lr']):g}: "
            + "; ".join(filter(None, all_gather_object(own)))
        )
        if stops:
            raise UserError(f"{where}. {_advice(runner)}")
        self._skip(runner, where)
        outputs.clear()  # else the averages in the log would be NaN for a while

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Refuse to save weights that are NaN: gradients can be so where the loss is not.

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

    def _skip(self, runner: Any, where: str) -> None:
        """Put the running statistics back, count and tell."""
        for buffer, before in self._buffers:
            buffer.data.copy_(before)
        hub = runner.message_hub
        skipped = hub.get_info("skipped_batches", 0) + 1
        hub.update_info("skipped_batches", skipped)
        hub.update_scalar("train/skipped_batches", skipped)
        print_log(
            f"skipped a batch ({skipped} so far, {self._skips_in_a_row} in a row, at most "
            f"{self.max_skips}): {where}",
            logger="current",
            level=logging.WARNING,
        )


def plain(value: Any) -> Any:
    """Turn a batch into tensors, numbers, strings, lists and dicts, which load safely.

    Data samples become dicts of their fields and their metainfo, boxes and masks the tensors that
    they hold; of anything else that is not plain, what ``repr`` says.
    """
    if isinstance(value, BaseDataElement):
        value = dict(value.all_items())
    value = getattr(value, "tensor", getattr(value, "masks", value))  # mmdet's boxes and masks
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value.copy())
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {str(name): plain(field) for name, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)


def _description(runner: Any, batch: Any, outputs: dict, keep: bool) -> str:
    """The loss terms and images of this process; their batch is kept in the work dir if asked."""
    record = {
        "iteration": runner.iter + 1,
        "epoch": runner.epoch + 1,
        "losses": {name: torch.as_tensor(value).item() for name, value in outputs.items()},
        "batch": plain(batch),
    }
    text = ", ".join(f"{name} {value:g}" for name, value in record["losses"].items())
    samples = [node for _, node in dicts_in(record["batch"]) if "img_path" in node]
    text += f"; images {', '.join(str(sample['img_path']) for sample in samples)}"
    if not keep:
        return text
    process = f"_rank_{get_rank()}" if get_world_size() > 1 else ""
    path = osp.join(runner.work_dir, f"nonfinite_batch_iter_{runner.iter + 1}{process}.pth")
    write_atomically(path, functools.partial(torch.save, record))
    return f"{text}; batch kept in {path}"


def _advice(runner: Any) -> str:
    checkpoint = find_latest_checkpoint(runner.work_dir)
    start = f"go on with --resume {checkpoint}" if checkpoint else "no checkpoint yet: start anew"
    return f"To mend it, {start}, with a lower learning rate, clipped gradients or bfloat16"
