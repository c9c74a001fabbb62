"""Checks of what a config says of data: sizes, batches, intervals, masks, evaluators."""

import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config

from xcit_dense.data.annotation_checks import kept_images
from xcit_dense.data.data_sets import Data
from xcit_dense.errors import Finding
from xcit_dense.mm.config import dicts_in, trained_part, type_name
from xcit_dense.swap import rules


def zero_labels_agree(data: Data) -> Iterator[Finding]:
    """A data set of mmseg and the steps that load its maps mean the same by label 0."""
    for data_set in data.sets:
        own = data_set.default("reduce_zero_label") if data_set.is_of_label_maps else None
        for step in data_set.steps:
            given = step.get("reduce_zero_label")
            if None not in (own, given) and bool(own) != bool(given):
                yield Finding(
                    f"{data_set.path}.reduce_zero_label is {own}, and {type_name(step)} in its "
                    f"pipeline has {given}: training ends with the first image",
                    "write it once, in the data set: True if 0 in the maps is what is left out",
                )


def crops_fit_batches(data: Data) -> Iterator[Finding]:
    """mmseg's batches have one size, which crops fill; one of two ways to pad is told."""
    preprocessor = _preprocessor(data.cfg)
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
            text = f"{data_set.path} has crops of {crop}, and model.data_preprocessor.size is "
            if any(side > limit for side, limit in zip(crop, size, strict=True)):
                text += f"{tuple(size)}: larger and smaller images make no batch"
                yield Finding(text, f"data_preprocessor=dict(size={crop})")
            elif crop != tuple(size):
                share = 1 - crop[0] * crop[1] / (size[0] * size[1])
                text += f"{tuple(size)}: {share:.0%} of each batch is padding"
                yield Finding(text, f"data_preprocessor=dict(size={crop})", is_wrong=False)


def padding_is_small(data: Data) -> Iterator[Finding]:
    """``pad_size_divisor`` is a number of pixels, and no larger than the images."""
    divisor = _preprocessor(data.cfg).get("pad_size_divisor", 1)
    where = f"model.data_preprocessor.pad_size_divisor = {divisor}"
    if not isinstance(divisor, int) or divisor < 1:
        yield Finding(f"{where} must be a whole number, 1 or more", "pad_size_divisor=32")
        return
    for data_set in data.of("train"):
        scales = [step.get("scale") for step in data_set.steps if type_name(step) == "Resize"]
        sides = [max(scale) for scale in scales if isinstance(scale, (list, tuple))]
        if sides and divisor > sides[-1]:
            text = f"{where}, and images are resized to {sides[-1]} pixels: most is padding"
            yield Finding(text, "pad_size_divisor=32", is_wrong=False)


def _preprocessor(cfg: Config) -> dict:
    model = cfg.get("model")
    inner = trained_part(model)[0].get("data_preprocessor") if isinstance(model, dict) else None
    return inner or cfg.get("data_preprocessor") or {}


def masks_are_loaded_and_made(data: Data) -> Iterator[Finding]:
    """A mask head of a two-stage detector has masks to learn from; else no metric wants them."""
    model = data.cfg.get("model")
    head = trained_part(model)[0].get("roi_head") if isinstance(model, dict) else None
    if not isinstance(head, dict):
        return
    if head.get("mask_head") is None:
        for split in ("val", "test"):
            for path, node in dicts_in(data.cfg.get(f"{split}_evaluator"), f"{split}_evaluator"):
                if "segm" in (node.get("metric") or ()):
                    text = f"{path}.metric has 'segm', and model.roi_head makes no masks"
                    yield Finding(f"{text}: evaluation ends there", "metric='bbox'")
        return
    steps = [step for _, step in dicts_in(data.cfg.get("train_dataloader"))]
    loaders = [step for step in steps if type_name(step).endswith("Annotations")]
    loads = [s.get("with_mask", type_name(s) in rules.MASK_LOADERS) for s in loaders]
    if "LoadAnnotations" in map(type_name, loaders) and not any(loads):
        text = "model.roi_head.mask_head learns masks, and no step of the training pipeline loads "
        remedy = "LoadAnnotations with with_mask=True, or roi_head=dict(mask_head=None)"
        yield Finding(f"{text}them: training ends with the first batch", remedy)


def evaluators_read_their_data(data: Data) -> Iterator[Finding]:
    """A metric with an annotation file has that of the data set that it judges."""
    for split in ("val", "test"):
        files = {osp.realpath(each.file) for each in data.of(split) if each.file}
        for path, node in dicts_in(data.cfg.get(f"{split}_evaluator"), f"{split}_evaluator"):
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
    base, batch = scaling.get("base_batch_size"), _loader(data).get("batch_size")
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


def _loader(data: Data) -> dict:
    return data.cfg.get("train_dataloader") or {}


def _images(data: Data) -> int | None:
    """How many images an epoch has, where the classes of all data sets are known."""
    count = 0
    for data_set in data.of("train"):
        if data_set.content is not None:
            is_large, has_objects = kept_images(data_set)
            own = int((is_large & has_objects).sum())
        else:
            own = len(data_set.image_files)
        indices = data_set.node.get("indices")
        count += data_set.times * (min(own, indices) if isinstance(indices, int) else own)
    return count or None


def batches_can_be_filled(data: Data) -> Iterator[Finding]:
    """Where incomplete batches are dropped, there are images for one."""
    loader, images = _loader(data), _images(data)
    parts = (loader, loader.get("batch_sampler") or {})
    batch = loader.get("batch_size", 1) * (data.processes or 1)
    if images and images < batch and any(part.get("drop_last") for part in parts):
        text = f"train_dataloader drops incomplete batches, and {images} images make no "
        remedy = "drop_last=False, or a smaller batch_size"
        yield Finding(f"{text}batch of {batch}: nothing would be learnt", remedy)


def intervals_fit_the_training(data: Data) -> Iterator[Finding]:
    """Logs and evaluations come before the training ends."""
    loop = data.cfg.get("train_cfg") or {}
    key = "max_iters" if loop.get("max_iters") else "max_epochs"
    length, interval = loop.get(key), loop.get("val_interval", 1)
    if not length:
        return
    if data.cfg.get("val_dataloader") and interval > length:
        text = f"train_cfg.val_interval = {interval} is more than {key} = {length}"
        yield Finding(f"{text}: only the end is evaluated", "lower it", is_wrong=False)
    every = ((data.cfg.get("default_hooks") or {}).get("logger") or {}).get("interval", 10)
    if key == "max_iters" and every > length:  # the end of an epoch is always logged
        text = f"default_hooks.logger.interval = {every} is more than {key} = {length}"
        remedy = f"default_hooks=dict(logger=dict(interval={max(length // 10, 1)}))"
        yield Finding(f"{text}: no losses are logged", remedy, is_wrong=False)
