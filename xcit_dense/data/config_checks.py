"""Checks of what a config says of data: sizes, batches, masks, evaluators."""

import os.path as osp
from collections.abc import Iterator
from typing import Any

from xcit_dense.data.data_sets import Data
from xcit_dense.errors import Finding
from xcit_dense.mm.config import dicts_in, trained_part, type_name


def crops_fit_batches(data: Data) -> Iterator[Finding]:
    """mmseg's batches have one size, which crops fill; one of two ways to pad is told."""
    preprocessor = _part(data, "data_preprocessor") or data.cfg.get("data_preprocessor") or {}
    if type_name(preprocessor) != "SegDataPreProcessor":
        return
    size, divisor = preprocessor.get("size"), preprocessor.get("size_divisor")
    if (size is None) == (divisor is None):
        text = f"model.data_preprocessor has size={size} and size_divisor={divisor}"
        remedy = "one of them: size=(HEIGHT, WIDTH) of the crops"
        yield Finding(f"{text}: training ends with the first batch", remedy)
        return
    for data_set in data.of("train") if size is not None else ():
        for step in data_set.steps:
            crop = step.get("crop_size")
            if type_name(step) != "RandomCrop" or crop is None:
                continue
            crop = (crop, crop) if isinstance(crop, int) else tuple(crop)
            if crop == tuple(size):
                continue
            is_larger = any(side > limit for side, limit in zip(crop, size, strict=True))
            padding = f"{1 - crop[0] * crop[1] / (size[0] * size[1]):.0%} of each batch is padding"
            effect = "larger and smaller images make no batch" if is_larger else padding
            yield Finding(
                f"{data_set.path} has crops of {crop}, and model.data_preprocessor.size is "
                f"{tuple(size)}: {effect}",
                f"data_preprocessor=dict(size={crop})",
                is_wrong=is_larger,
            )


def _part(data: Data, key: str) -> Any:
    """A part of the model that is trained."""
    model = data.cfg.get("model")
    return trained_part(model)[0].get(key) if isinstance(model, dict) else None


def masks_are_loaded_and_made(data: Data) -> Iterator[Finding]:
    """A mask head of a two-stage detector has masks to learn from; else no metric wants them."""
    head = _part(data, "roi_head")
    if not isinstance(head, dict):
        return
    if head.get("mask_head") is None:
        for path, node in _evaluators(data, "val") + _evaluators(data, "test"):
            if "segm" in (node.get("metric") or ()):
                text = f"{path}.metric has 'segm', and model.roi_head makes no masks"
                yield Finding(f"{text}: evaluation ends there", "metric='bbox'")
        return
    steps = [step for _, step in dicts_in(data.cfg.get("train_dataloader"))]
    loads = [step.get("with_mask") for step in steps if type_name(step) == "LoadAnnotations"]
    if loads and not any(loads):
        text = "model.roi_head.mask_head learns masks, and no step of the training pipeline loads "
        remedy = "LoadAnnotations with with_mask=True, or roi_head=dict(mask_head=None)"
        yield Finding(f"{text}them: training ends with the first batch", remedy)


def _evaluators(data: Data, split: str) -> list[tuple[str, dict]]:
    return list(dicts_in(data.cfg.get(f"{split}_evaluator"), f"{split}_evaluator"))


def evaluators_read_their_data(data: Data) -> Iterator[Finding]:
    """A metric with an annotation file has that of the data set that it judges."""
    for split in ("val", "test"):
        files = {osp.realpath(each.file) for each in data.of(split) if each.file}
        for path, node in _evaluators(data, split):
            file = node.get("ann_file")
            if isinstance(file, str) and files and osp.realpath(file) not in files:
                is_there = osp.isfile(file)
                text = f"{path}.ann_file={file!r}" + ("" if is_there else ", which is not there,")
                yield Finding(
                    f"{text} is not the file of the data set, {', '.join(sorted(files))}: "
                    "predictions would be judged by the objects of other images",
                    "name the file of the data set in both",
                )


def batches_fit_the_rate(data: Data) -> Iterator[Finding]:
    """The whole batch is that which the learning rate is for."""
    scaling = data.cfg.get("auto_scale_lr") or {}
    base, loader = scaling.get("base_batch_size"), data.cfg.get("train_dataloader") or {}
    batch = loader.get("batch_size")
    if None in (base, batch, data.processes) or scaling.get("enable"):
        return
    if batch * data.processes != base:
        count = f"{data.processes} process" + "es" * (data.processes > 1)
        yield Finding(
            f"the learning rate is for batches of {base} (auto_scale_lr.base_batch_size), and "
            f"{count} with train_dataloader.batch_size={batch} make {batch * data.processes}",
            "add --auto-scale-lr, which scales the rate",
            is_wrong=False,
        )
