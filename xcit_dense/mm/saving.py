"""Saving checkpoints so that at every moment a complete one is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.mm.resuming import newest_first


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, where a file that is put replaces the old one at once."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a whole file; where that fails, what was there stays."""
        write_atomically(filepath, lambda file: file.write(obj))


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, never without a complete checkpoint.

    ``CheckpointHook`` removes the oldest checkpoint before it writes a new one, and the best one
    likewise, so a run that dies between has lost them. Here the new file is complete, then
    ``last_checkpoint`` names it, then the old file is removed. The arguments are the same.
    A record that is cut short does no harm: resuming then takes the last written checkpoint.
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
        with self._removing_afterwards(runner, meta):
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        # saves the checkpoint of the step anew too, by the method above
        with self._removing_afterwards(runner, {"epoch": runner.epoch, "iter": runner.iter}):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_afterwards(self, runner: Any, counts: dict[str, int]) -> Iterator[None]:
        """Put off what is to be removed until everything is saved; if that fails, it stays.

        Args:
            runner: its work dir has the checkpoints that an error names.
            counts: the epoch and the iteration of what is saved meanwhile.

        Raises:
            UserError: something cannot be saved; says from what the run can go on.
        """
        backend, counts_before, removals = self.file_backend, self._counts, []
        self.file_backend = copy(backend)
        self.file_backend.remove = removals.append
        self._counts = counts_before or dict(counts)
        try:
            yield
        except OSError as error:
            complete = newest_first(runner.work_dir)
            remains = f"{complete[0]} is complete" if complete else "no other one is complete yet"
            raise UserError(
                f"{self.out_dir}: a checkpoint cannot be saved ({error}); {remains}: make room, "
                "then go on with --resume"
            ) from error
        finally:
            self.file_backend, self._counts = backend, counts_before
        current = {self.last_ckpt, getattr(self, "best_ckpt_path", None)}
        current.update(getattr(self, "best_ckpt_path_dict", {}).values())
        for path in removals:
            if path not in current:
                backend.remove(path)
