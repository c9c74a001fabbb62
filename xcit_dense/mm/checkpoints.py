"""The checkpoints of a run: a complete one is there at every moment, and a run goes on from it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import find_latest_checkpoint

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, type_name
from xcit_dense.mm.launch import say
from xcit_dense.weights.safe_loading import load_from_local

_STATE_OF_TRAINING = {"meta", "state_dict", "message_hub", "optimizer"}
_NUMBERED = re.compile(r"(epoch|iter)_\d+\.pth")


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

    def before_train(self, runner: Any) -> None:
        """Take over what earlier starts of the run left in its folder, if it goes on there."""
        hub, folder = runner.message_hub, runner.work_dir
        if self.out_dir not in (None, folder):
            folder = os.path.join(self.out_dir, os.path.basename(folder))
        steps = hub.pop_info("keep_ckpt_ids", [])
        best = {
            key: hub.pop_info(key) for key in [*hub.runtime_info] if key.startswith("best_ckpt")
        }
        source = runner._load_from or find_latest_checkpoint(runner.work_dir) or ""
        if os.path.realpath(os.path.dirname(source)) == os.path.realpath(folder):
            steps = [step for step in steps if isinstance(step, int)]
            hub.update_info("keep_ckpt_ids", steps[-self.max_keep_ckpts :])
            for key, path in best.items():
                name = os.path.basename(str(path))
                if fnmatch(name, self._names_of_best) and os.path.exists(f"{folder}/{name}"):
                    hub.update_info(key, os.path.join(folder, name))
        super().before_train(runner)

    @property
    def _names_of_best(self) -> str:
        return "best_*_" + re.sub("{.*?}", "[0-9]*", self.filename_tmpl).replace("/", "_")

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


def use_resume(cfg: Config, checkpoint: str) -> None:
    """Go on from a checkpoint, or from the newest of the work dir that loads (``'auto'``).

    Where the work dir has none, training starts anew, from what the config names.

    Raises:
        FileNotFoundError: the checkpoint is missing.
        UserError: it is damaged, would run code, or has not the whole state of training.
    """
    if checkpoint == "auto":
        newest = newest_resumable(cfg.work_dir)
        cfg.resume = newest is not None
        if newest is None:
            say(f"no checkpoint to resume from in {cfg.work_dir}: training starts anew")
        else:
            say(f"resuming from {newest}")
            cfg.load_from = newest
        return
    if _is_local(checkpoint):
        _check_resumable(checkpoint)
    cfg.resume, cfg.load_from = True, checkpoint


def newest_resumable(work_dir: str | os.PathLike) -> str | None:
    """The newest checkpoint of a work dir that loads; says what is wrong with the newer ones."""
    for path in newest_first(work_dir):
        try:
            _check_resumable(path)
        except (FileNotFoundError, UserError) as error:
            say(f"warning: not resumed from {error}")
        else:
            return path
    return None


def newest_first(work_dir: str | os.PathLike) -> list[str]:
    """The checkpoint that ``last_checkpoint`` names, then the others, the last written first."""
    recorded = []
    record = Path(work_dir, "last_checkpoint")
    if record.is_file() and (named := record.read_text(encoding="utf-8").strip()):
        here = Path(work_dir, os.path.basename(named))  # the work dir may have moved
        recorded = [str(here) if here.is_file() else named]
    numbered = [path for path in Path(work_dir).glob("*.pth") if _NUMBERED.fullmatch(path.name)]
    numbered.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return list(dict.fromkeys([*recorded, *map(str, numbered)]))


def check_checkpoints(cfg: Config) -> None:
    """See that the local checkpoints that a new run starts from load, before its data are read.

    Raises:
        FileNotFoundError: one is missing.
        UserError: one is damaged, or would run code.
    """
    nodes = [node for _, node in dicts_in(cfg.model) if type_name(node) == "Pretrained"]
    sources = [node.get("checkpoint") for node in nodes]
    if not cfg.get("resume"):
        sources.append(cfg.get("load_from"))
    for source in filter(_is_local, sources):
        load_from_local(source, map_location="meta")


def _is_local(checkpoint: Any) -> bool:
    return isinstance(checkpoint, str) and "://" not in checkpoint


def _check_resumable(path: str) -> None:
    if missing := _STATE_OF_TRAINING - set(load_from_local(path, map_location="meta")):
        raise UserError(
            f"{path}: has not the whole state of training (no {', '.join(sorted(missing))}). "
            f"To start from its weights: --cfg-options load_from={path}"
        )
