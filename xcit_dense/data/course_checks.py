"""Checks of what a config says of training's course: steps of pipelines, rate, validation."""

from collections.abc import Iterator
from typing import Any

from xcit_dense.data.data_sets import Data
from xcit_dense.errors import Finding, listed
from xcit_dense.mm.config import dicts_in, type_name

_OF_BOXES = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
_OF_IOU_METRICS = {
    "mIoU": ("mIoU", "mAcc"),
    "mDice": ("mDice", "mAcc"),
    "mFscore": ("mFscore", "mPrecision", "mRecall"),
}
_HIGH_RATE = 0.02


def pipelines_pack(data: Data) -> Iterator[Finding]:
    """A model takes what a step of the pipeline packs, at its end or in a data set around it."""
    for split in dict.fromkeys(data_set.split for data_set in data.sets):
        names = [type_name(node) for _, node in dicts_in(data.cfg.get(f"{split}_dataloader"))]
        if "LoadImageFromFile" in names and not any(name.startswith("Pack") for name in names):
            text = f"no step of {split}_dataloader packs what a model takes"
            remedy = "none if one of yours does; else dict(type='PackDetInputs') or "
            yield Finding(text, f"{remedy}'PackSegInputs' at the end of the pipeline", False)


def rate_is_usual(data: Data) -> Iterator[Finding]:
    """Adam's steps do not grow with the gradients, so one rate fits most models."""
    optimizer = (data.cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    rate = optimizer.get("lr")
    is_adam = type_name(optimizer) in ("Adam", "AdamW")
    if is_adam and isinstance(rate, float | int) and rate > _HIGH_RATE:
        text = f"optim_wrapper.optimizer.lr={rate} of {type_name(optimizer)}"
        remedy = "1e-4 for 16 images is the recipe's"
        yield Finding(f"{text}: losses will most likely grow", remedy, is_wrong=False)


def best_is_validated(data: Data) -> Iterator[Finding]:
    """Validation is on the way, and the metric that chooses the best checkpoint is one of it."""
    cfg = data.cfg
    course = cfg.get("train_cfg") or {}
    length, interval = (
        course.get("max_epochs") or course.get("max_iters"),
        course.get("val_interval"),
    )
    # one more than the length is mm's way to say that
    if cfg.get("val_cfg") is not None and length and interval and interval > length + 1:
        text = f"train_cfg.val_interval={interval}, and training ends after {length}"
        remedy = f"{max(1, length // 10)} or so, or max_epochs and max_iters that are larger"
        yield Finding(f"{text}: it validates once, at its end", remedy, is_wrong=False)
    wanted = ((cfg.get("default_hooks") or {}).get("checkpoint") or {}).get("save_best")
    nodes = [node for _, node in dicts_in(cfg.get("val_evaluator")) if "type" in node]
    known = [_names_of(node) for node in nodes]
    if not known or not all(known):
        return
    names = [name for each in known for name in each]
    for name in [wanted] if isinstance(wanted, str) else wanted or ():
        if name not in ("auto", *names):
            text = f"default_hooks.checkpoint.save_best={name!r} is no metric of val_evaluator"
            yield Finding(
                f"{text}: the first validation ends training", f"one of {listed(names, 9)}"
            )


def _names_of(metric: dict[str, Any]) -> list[str]:
    """What a metric of COCO or mmseg calls its values; nothing of others."""
    if type_name(metric) == "CocoMetric" and not metric.get("format_only"):
        kinds = metric.get("metric", "bbox")
        kinds, items = [kinds] if isinstance(kinds, str) else kinds, metric.get("metric_items")
        if not items and not {*kinds} - {"bbox", "segm"}:
            prefix = metric.get("prefix") or "coco"
            return [f"{prefix}/{kind}_{name}" for kind in kinds for name in _OF_BOXES]
    if type_name(metric) == "IoUMetric" and not metric.get("format_only"):
        prefix = f"{metric['prefix']}/" if metric.get("prefix") else ""
        kinds = [_OF_IOU_METRICS.get(kind, ()) for kind in metric.get("iou_metrics", ["mIoU"])]
        return [prefix + name for name in dict.fromkeys(("aAcc", *sum(kinds, ())))]
    return []
