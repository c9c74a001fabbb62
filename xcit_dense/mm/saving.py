"""Saving checkpoints: a complete one is there at every moment, in a work dir of the run's own."""

import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import copy
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import find_latest_checkpoint

from xcit_dense.atomic_files import named_in_errors, write_atomically
from xcit_dense.errors import UserError
from xcit_dense.mm.config import type_name
from xcit_dense.mm.launch import LAUNCHERS, say
from xcit_dense.mm.resuming import newest_first


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, where a file that is put replaces the old one at once."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a whole file; where that fails, what was there stays."""
        write_atomically(filepath, lambda file: file.write(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write a whole text file; where that fails, what was there stays."""
        self.put(obj.encode(encoding), filepath)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, never without a complete checkpoint.

    ``CheckpointHook`` removes the oldest checkpoint before it writes a new one, and the best one
    likewise, so a run that dies between has lost them. Here the new file is complete, then
    ``last_checkpoint`` names it, then the old file is removed. The arguments are the same.

    Only files of the run are removed: those that it wrote since it was started and, if it was
    resumed from a checkpoint in the very folder that it writes to, those that earlier starts left
    there, by the names that it gives. Paths in a checkpoint are not followed.
    """

    _counts: dict[str, int] | None = None
    _steps_before: Sequence[int] = ()

    def before_train(self, runner: Any) -> None:
        """Take over what earlier starts of the run left in its folder, if it goes on there."""
        hub, folder = runner.message_hub, runner.work_dir
        if self.out_dir not in (None, folder):
            folder = os.path.join(self.out_dir, os.path.basename(folder))
        steps = hub.pop_info("keep_ckpt_ids", [])
        best = {
            key: hub.pop_info(key) for key in [*hub.runtime_info] if key.startswith("best_ckpt")
        }
        due: list[int] = []  # of a checkpoint that the run was killed before removing
        unfinished: Iterable[Path] = ()  # what it was killed while writing
        with redirect_stdout(None):  # it prints that a new run has none
            source = runner._load_from or find_latest_checkpoint(runner.work_dir) or ""
        if os.path.realpath(os.path.dirname(source)) == os.path.realpath(folder):
            steps = [step for step in steps if isinstance(step, int)]
            hub.update_info("keep_ckpt_ids", steps[-self.max_keep_ckpts :])
            due = steps[: -self.max_keep_ckpts][-1:] if self.max_keep_ckpts > 0 else []
            for key, path in best.items():
                name = os.path.basename(str(path))
                if fnmatch(name, self._own_names[1]) and os.path.exists(f"{folder}/{name}"):
                    hub.update_info(key, os.path.join(folder, name))
            unfinished = Path(folder).glob(".*.partial")
        super().before_train(runner)
        if not is_main_process():
            return
        for path in unfinished:
            if any(fnmatch(path.name, f".{names}.partial") for names in self._own_names):
                path.unlink()
        for step in due:
            path = os.path.join(folder, self.filename_tmpl.format(step))
            if os.path.exists(path) and not os.path.samefile(path, source):
                self.file_backend.remove(path)

    @property
    def _own_names(self) -> tuple[str, str]:
        """Patterns of the names of checkpoints, and of best ones."""
        names = re.sub("{.*?}", "[0-9]*", self.filename_tmpl).replace("/", "_")
        return names, f"best_*_{names}"

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Write the epoch and the iteration that a file has, and what is there until it is.

        After validation, mmengine's ``FlexibleRunner`` counts one too many, which a run that is
        resumed from the file would skip.
        """
        if self._counts is not None:
            checkpoint["meta"].update(self._counts)
        info = checkpoint.get("message_hub", {}).get("runtime_info", {})
        if "keep_ckpt_ids" in info:
            steps = [*self._steps_before, *info["keep_ckpt_ids"]]
            info["keep_ckpt_ids"] = [*dict.fromkeys(steps)]

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        self._steps_before = runner.message_hub.runtime_info.get("keep_ckpt_ids", [])
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
        self.file_backend.remove = self.file_backend.rmtree = removals.append
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
                (backend.rmtree if backend.isdir(path) else backend.remove)(path)


def use_atomic_checkpoints(cfg: Config) -> None:
    """Let a config of mm's own save checkpoints as ours do; see ``AtomicCheckpointHook``."""
    of_mmengine = {"type": "CheckpointHook", "interval": 1}
    hook = cfg.get("default_hooks", {}).get("checkpoint", of_mmengine)
    if hook is not None and type_name(hook) == "CheckpointHook":
        cfg.merge_from_dict(
            {"default_hooks": {"checkpoint": {**hook, "type": "AtomicCheckpointHook"}}}
        )
        say("CheckpointHook becomes AtomicCheckpointHook, which removes no checkpoint too early")


@contextmanager
def hold_work_dir(cfg: Config, force: bool = False) -> Iterator[None]:
    """Let no other training into the work dir meanwhile, as they would mix their checkpoints.

    The first process holds a lock on a file that says who it is. The system takes the lock from
    processes that end, in whatever way, so what a killed one leaves stops nobody.

    Args:
        cfg: names the work dir and the launcher.
        force: go on also where another training is in it.

    Raises:
        UserError: another training is in it; says which, and since when.
        OSError: the work dir cannot be written to.
    """
    if cfg.launcher != "none" and os.environ[LAUNCHERS[cfg.launcher][2]] != "0":
        yield
        return
    path = Path(cfg.work_dir, ".in_use")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        is_ours = _lock(file)
        if not is_ours and not force:
            file.seek(0)
            other = file.read().decode().strip()
            raise UserError(
                f"{cfg.work_dir}: another training is in it, {other}; name another --work-dir, or "
                "add --force to train there all the same"
            )
        try:
            if is_ours:
                now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
                with named_in_errors(path):
                    file.truncate(0)
                    file.write(
                        f"process {os.getpid()} on {socket.gethostname()} since {now}".encode()
                    )
            yield
        finally:
            if is_ours:
                path.unlink(missing_ok=True)


def _lock(file: BinaryIO) -> bool:
    """Lock a file unless another process has; False if that is so."""
    try:
        import fcntl  # here: not all systems have it

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ImportError, OSError) as error:
        say(f"warning: two trainings in one work dir would not be noticed ({error})")
    return True
