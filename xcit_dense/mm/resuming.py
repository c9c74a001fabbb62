"""Going on from checkpoints, after reading them whole."""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, type_name
from xcit_dense.mm.launch import say
from xcit_dense.weights.safe_loading import load_from_local

_STATE_OF_TRAINING = {"meta", "state_dict", "message_hub"}
_NUMBERED = re.compile(r"(epoch|iter)_\d+\.pth")


def use_resume(cfg: Config, checkpoint: str) -> None:
    """Go on from a checkpoint, or from the newest of the work dir that loads (``'auto'``).

    Where the work dir has none, training starts anew, from what the config names.
    """
    if checkpoint != "auto":
        cfg.resume, cfg.load_from = True, checkpoint
        return
    newest, problems = newest_resumable(cfg.work_dir)
    for problem in problems:
        say(f"warning: not resumed from {problem}")
    if newest is None:
        say(f"no checkpoint to resume from in {cfg.work_dir}: training starts anew")
        cfg.resume = False
    else:
        say(f"resuming from {newest}")
        cfg.resume, cfg.load_from = True, newest


def check_checkpoints(cfg: Config) -> None:
    """See that the local checkpoints that a config names load, before its data are read.

    The first process of each machine does so.

    Raises:
        FileNotFoundError: one is missing.
        UserError: one is damaged, would run code, or cannot be resumed from.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    if _is_local(cfg.get("load_from")):
        check = _check_resumable if cfg.get("resume") else _names_in
        check(cfg.load_from)
    for _, node in dicts_in(cfg.model):
        if type_name(node) == "Pretrained" and _is_local(node.get("checkpoint")):
            _names_in(node["checkpoint"])


def use_atomic_checkpoints(cfg: Config) -> None:
    """Let a config of mm's own save checkpoints as ours do; see ``AtomicCheckpointHook``."""
    of_mmengine = {"type": "CheckpointHook", "interval": 1}
    hook = cfg.get("default_hooks", {}).get("checkpoint", of_mmengine)
    if hook is not None and type_name(hook) == "CheckpointHook":
        cfg.merge_from_dict(
            {"default_hooks": {"checkpoint": {**hook, "type": "AtomicCheckpointHook"}}}
        )
        say("CheckpointHook becomes AtomicCheckpointHook, which removes no checkpoint too early")


def newest_resumable(work_dir: str | os.PathLike) -> tuple[str | None, list[str]]:
    """Find the newest checkpoint of a work dir that loads.

    Args:
        work_dir: where the run keeps its log and ``last_checkpoint``.

    Returns:
        The path, None if there is none; and what is wrong with the newer ones, a line each.
    """
    problems = []
    for path in newest_first(work_dir):
        try:
            _check_resumable(path)
        except (FileNotFoundError, UserError) as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


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


def _is_local(checkpoint: Any) -> bool:
    return isinstance(checkpoint, str) and "://" not in checkpoint


def _names_in(path: str) -> set[str]:
    return _read_once(path, os.path.getmtime(path) if os.path.exists(path) else None)


@lru_cache(maxsize=1)
def _read_once(path: str, modified: float | None) -> set[str]:
    """What is in a file; the one that ``--resume`` has found is not read again to be checked."""
    return set(load_from_local(path, map_location="meta"))


def _check_resumable(path: str) -> None:
    if missing := _STATE_OF_TRAINING - _names_in(path):
        raise UserError(
            f"{path}: holds weights only, no state of training (no {', '.join(sorted(missing))}). "
            f"To start from these weights: --cfg-options load_from={path}"
        )
