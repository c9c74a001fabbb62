"""The checkpoints of a config: which ones a run starts from, and that it saves them whole."""

from typing import Any

from mmengine.config import Config

from xcit_dense.mm.config_tree import dicts_in, type_name
from xcit_dense.mm.launch import say
from xcit_dense.mm.resuming import check_resumable, newest_resumable
from xcit_dense.weights.safe_loading import load_local_checkpoint


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

    Raises:
        FileNotFoundError: one is missing.
        UserError: one is damaged, would run code, or cannot be resumed from.
    """
    if _is_local(cfg.get("load_from")):
        if cfg.get("resume"):
            check_resumable(cfg.load_from)
        else:
            load_local_checkpoint(cfg.load_from, map_location="meta")
    for _, node in dicts_in(cfg.model):
        if type_name(node) == "Pretrained" and _is_local(node.get("checkpoint")):
            load_local_checkpoint(node["checkpoint"], map_location="meta")


def use_atomic_checkpoints(cfg: Config) -> None:
    """Let a config of mm's own save checkpoints as ours do; see :class:`AtomicCheckpointHook`."""
    of_mmengine = {"type": "CheckpointHook", "interval": 1}
    hook = cfg.get("default_hooks", {}).get("checkpoint", of_mmengine)
    if hook is not None and type_name(hook) == "CheckpointHook":
        cfg.merge_from_dict(
            {"default_hooks": {"checkpoint": {**hook, "type": "AtomicCheckpointHook"}}}
        )
        say("CheckpointHook becomes AtomicCheckpointHook, which removes no checkpoint too early")


def _is_local(checkpoint: Any) -> bool:
    return isinstance(checkpoint, str) and "://" not in checkpoint
