"""Values of a config that would fail late, or with words that name no place."""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from numbers import Real
from typing import Any

from mmengine.config import Config

from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, type_name


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_rate(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value >= 0


def _is_level(value: Any) -> bool:
    return isinstance(value, int) or isinstance(getattr(logging, str(value), None), int)


_COUNT = (_is_count, "a whole number from 1")
_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "log_level": (_is_level, "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    "train_cfg.max_epochs": _COUNT,
    "train_cfg.max_iters": _COUNT,
    "train_cfg.val_interval": (
        _is_count,
        "a whole number from 1; to leave validation out, make val_cfg, val_dataloader and "
        "val_evaluator None",
    ),
    "train_dataloader.batch_size": _COUNT,
    "train_dataloader.num_workers": (lambda value: _is_count(value, 0), "a whole number from 0"),
    "val_dataloader.batch_size": _COUNT,
    "val_dataloader.num_workers": (lambda value: _is_count(value, 0), "a whole number from 0"),
    "optim_wrapper.optimizer.lr": (_is_rate, "a number, such as 1e-4"),
    "optim_wrapper.accumulative_counts": _COUNT,
    "default_hooks.logger.interval": _COUNT,
    "default_hooks.checkpoint.interval": (
        lambda value: value == -1 or _is_count(value),
        "a whole number from 1, or -1 for no checkpoints",
    ),
}


def check_values(cfg: Config) -> None:
    """See that common values of a config are such as can be used, before anything is built.

    What a config leaves out is left to mmengine.

    Raises:
        UserError: one is not; names it, and what is wanted.
    """
    for place, (is_right, wanted) in _WANTED.items():
        *parents, key = place.split(".")
        node = cfg
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict | Config) else None
        value = node.get(key) if isinstance(node, dict | Config) else None
        if value is not None and not is_right(value):
            raise UserError(f"{place}={value!r:.60} in the config; wanted is {wanted}")
    for path, node in dicts_in(cfg.get("model") or {}, "model"):
        init = node.get("init_cfg")
        if not isinstance(init, dict | list | tuple | None):
            raise UserError(
                f"{path}.init_cfg={init!r:.60} in the config; wanted is a dict, for a checkpoint "
                "dict(type='Pretrained', checkpoint=PATH_OR_URL)"
            )
    for name in ("val_evaluator", "test_evaluator"):
        for _, node in dicts_in(cfg.get(name)):
            if type_name(node) == "FasterCocoMetric" and not find_spec("faster_coco_eval"):
                raise UserError(
                    f"{name}: FasterCocoMetric needs a package: pip install faster-coco-eval; "
                    "CocoMetric computes the same without"
                )
