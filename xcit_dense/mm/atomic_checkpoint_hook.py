"""Saving checkpoints so that at every moment a complete one is there."""

import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from xcit_dense.errors import UserError
from xcit_dense.mm.atomic_saving import AtomicLocalBackend
from xcit_dense.mm.resuming import NAME_OF_RECORD, recorded_checkpoint
from xcit_dense.weights.checkpoint_error import UnsavedCheckpointError


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, never without a complete checkpoint.

    ``CheckpointHook`` removes the oldest checkpoint before it writes a new one, and the best one
    likewise, so a run that dies between has lost them. Here the new file is complete, then
    ``last_checkpoint`` names it, then the old file is removed. The arguments are the same.
    """

    _counts: dict[str, int] | None = None

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Write the epoch and the iteration that a file has.

        After validation, mmengine's ``FlexibleRunner`` counts one too many, which a run that is
        resumed from the file would skip.
        """
        if self._counts is not None:
            checkpoint["meta"].update(self._counts)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        """Save, name the new file in ``last_checkpoint``, remove what is outdated."""
        name = self.filename_tmpl.format(step)
        outdated = self._keep(step)
        if self.max_keep_ckpts > 0:
            # with the outdated ones: if the run dies before it has removed them, the resumed run
            # finds more than it may keep, and removes them in before_train
            kept = [*outdated, *self.keep_ckpt_ids]
            runner.message_hub.update_info("keep_ckpt_ids", kept)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        with self._counting(self._counts or dict(meta)), _failure_tells_what_remains(runner):
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                record = osp.join(runner.work_dir, NAME_OF_RECORD)
                AtomicLocalBackend().put(self.last_ckpt.encode(), record)
        if is_main_process():
            for old_step in outdated:
                self._remove(self.filename_tmpl.format(old_step))

    def _keep(self, step: int) -> list[int]:
        """Count a step among the kept ones; return those that are too many then."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        is_full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = [self.keep_ckpt_ids.popleft()] if is_full else []
        self.keep_ckpt_ids.append(step)
        return outdated

    def _remove(self, name: str) -> None:
        path = self.file_backend.join_path(self.out_dir, name)
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # of strategies whose checkpoints are folders
            self.file_backend.rmtree(path)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        """Save the best checkpoint, and only then remove the one that was the best before."""
        counts = {"epoch": runner.epoch, "iter": runner.iter}
        with (
            self._counting(counts),
            self._removing_afterwards(),
            _failure_tells_what_remains(runner),
        ):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _counting(self, counts: dict[str, int]) -> Iterator[None]:
        """Say which epoch and iteration the files have that are saved meanwhile."""
        before, self._counts = self._counts, counts
        try:
            yield
        finally:
            self._counts = before

    @contextmanager
    def _removing_afterwards(self) -> Iterator[None]:
        """Put off what the hook removes until everything is saved; if that fails, it stays."""
        backend = self.file_backend
        self.file_backend = later = _RemovesLater(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        current = {self.last_ckpt, getattr(self, "best_ckpt_path", None)}
        current.update(getattr(self, "best_ckpt_path_dict", {}).values())
        for remove, path in later.removals:
            if path not in current:
                remove(path)


class _RemovesLater:
    """A file backend that notes what it is to remove.

    Args:
        backend: does everything else.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removals = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Note a file."""
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        """Note a folder."""
        self.removals.append((self.backend.rmtree, path))


@contextmanager
def _failure_tells_what_remains(runner: Any) -> Iterator[None]:
    """Add to the error of a checkpoint that cannot be saved how to go on."""
    try:
        yield
    except UnsavedCheckpointError as error:
        last = recorded_checkpoint(runner.work_dir)
        remains = f"{last} is complete: make room" if last else "None is complete yet: make room"
        raise UserError(f"{error}. {remains}, then go on with --resume") from error
