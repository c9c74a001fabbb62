"""Going on from checkpoints, after reading them whole."""

import os
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config

from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, type_name
from xcit_dense.mm.launch import say
from xcit_dense.weights.safe_loading import load_from_local

_STATE_OF_TRAINING = {"meta", "state_dict", "message_hub", "optimizer"}
_PARTS_OF_STATE = {
    "meta": {"epoch", "iter"},
    "message_hub": {"log_scalars", "runtime_info", "resumed_keys"},
}
_NUMBERED = re.compile(r"(epoch|iter)_\d+\.pth")


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
    checkpoint = load_from_local(path, map_location="meta")
    missing = {name for name in _STATE_OF_TRAINING if not isinstance(checkpoint.get(name), dict)}
    for name, needed in _PARTS_OF_STATE.items():
        missing |= {f"{name}.{key}" for key in needed - checkpoint.get(name, {}).keys()}
    if missing:
        raise UserError(
            f"{path}: has not the whole state of training (no {', '.join(sorted(missing))}). "
            f"To start from its weights: --cfg-options load_from={path}"
        )
