"""Checks that run the model: levels, a training step, strides, and a prediction."""

import math
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xcit_dense.doctor.random_batch import random_batch
from xcit_dense.doctor.trial import Finding, Size, Trial, failure
from xcit_dense.mm.config import model_scope, type_name
from xcit_dense.swap import MeasuredBackbone, SwapError, find_readers, maps_in

_STRIDES = ("featmap_strides", "feature_strides")
_MAKERS_OF_PLACES = ("prior_generator", "anchor_generator")


def widths_fit_levels(trial: Trial) -> Iterator[Finding]:
    """Neck or heads expect the widths that the backbone gives."""
    backbone = getattr(trial.model, "backbone", None)
    try:
        trial.levels = [] if backbone is None else trial.run(backbone)
    except Exception as error:
        yield failure("running the backbone", error)
        return
    trial.readers = [[] for _ in trial.levels]
    if not trial.levels:
        yield _not_compared("no backbone gives plain maps (B, C, H, W), one a level")
        return
    name = type_name(trial.config["backbone"])
    measured = MeasuredBackbone(name, tuple(trial.levels))
    try:
        readers = find_readers(trial.config, trial.path, measured)
    except SwapError as error:
        yield _not_compared(str(error))
        return
    for reader in readers:
        for level, width in zip(reader.levels, reader.widths, strict=False):
            trial.readers[level].append(f"{reader.path} ({reader.width_key} {width})")
        try:
            reader.check_widths(measured)
        except SwapError as error:
            yield Finding(str(error), "make the two agree; see the table of levels")


def _not_compared(reason: str) -> Finding:
    """A user's own parts may be like none that are known: the training step tells more."""
    remedy = "none is needed where the training step goes well"
    return Finding(f"widths are not compared: {reason}", remedy, is_wrong=False)


def training_step_succeeds(trial: Trial) -> Iterator[Finding]:
    """A batch of two has losses, and these have gradients."""
    _note_map_sizes(trial)
    try:
        trial.losses = _take_step(trial)
    except Exception as error:
        yield failure("a training step", error)
        return
    if getattr(trial.model, "neck", None) is not None:
        trial.neck_levels = trial.run(trial.model.extract_feat)


def _take_step(trial: Trial) -> dict[str, float]:
    """Losses by name; their gradients are in the parameters."""
    model = trial.model
    model.zero_grad()
    model.train()
    # some heads learn otherwise in later epochs; a runner and mmdet's SetEpochInfoHook tell
    hub = MessageHub.get_current_instance()
    for count in ("epoch", "iter"):
        if hub.get_info(count) is None:
            hub.update_info(count, 0)
    if hasattr(model, "set_epoch"):
        model.set_epoch(0)
    batch = model.data_preprocessor(random_batch(trial, 2), training=True)
    losses = model(**batch, mode="loss")
    total, means = model.parse_losses(losses)
    total.backward()
    return {name: means[name].item() for name in losses if "loss" in name}


def _note_map_sizes(trial: Trial) -> None:
    """Let parts that declare strides note the maps that they are given first: no config tells."""
    for name, part in trial.model.named_modules():
        if _declared_strides(part):
            # no hook: mmseg's heads call their own ``forward``, past all hooks
            part.forward = _noting(part.forward, name, trial.map_sizes)


def _noting(forward: Callable, name: str, map_sizes: dict[str, list[Size]]) -> Callable:
    @wraps(forward)
    def noting(*arguments: Any, **keywords: Any) -> Any:
        if name not in map_sizes and arguments and (maps := maps_in(arguments[0])):
            map_sizes[name] = [tuple(tensor.shape[2:]) for tensor in maps]
        return forward(*arguments, **keywords)

    return noting


def strides_fit_maps(trial: Trial) -> Iterator[Finding]:
    """Strides that parts declare, or have by default, are those of the maps that they are given.

    Else anchors, points or pooled regions are at wrong places: nothing fails, nothing is learnt.
    """
    for name, sizes in trial.map_sizes.items():
        part = trial.model.get_submodule(name)
        indices = getattr(part, "in_index", None)
        if isinstance(indices, (list, tuple)):  # heads of mmseg are given all levels, and choose
            sizes = [sizes[index] for index in indices if -len(sizes) <= index < len(sizes)]
        for key, strides in _declared_strides(part).items():
            if not _fit(strides, sizes, trial.image_size):
                found = [round(max(trial.image_size) / max(size)) for size in sizes]
                yield Finding(
                    f"{trial.path}.{name}.{key} = {strides}, but the maps have strides {found}",
                    "declare the strides of the maps, or have others made (start_level of the "
                    "neck, out_strides of XCiT)",
                )


def _declared_strides(part: nn.Module) -> dict[str, list[float]]:
    """One number a level, by the attribute that has them, or makes anchors or points of them."""
    declared = {}
    for key, value in vars(part).items():
        if key.endswith(_MAKERS_OF_PLACES):
            key, value = f"{key}.strides", getattr(value, "strides", None)
        elif key not in _STRIDES:
            continue
        # those of the two directions are compared where they are the same
        strides = [
            stride[0] if isinstance(stride, (list, tuple)) and len(set(stride)) == 1 else stride
            for stride in (value if isinstance(value, (list, tuple)) else [])
        ]
        if strides and all(isinstance(each, (int, float)) and each > 0 for each in strides):
            declared[key] = strides
    return declared


def _fit(strides: list[float], sizes: list[Size], image_size: Size) -> bool:
    """Whether the maps, or the first of them, are of these strides, rounded up or down."""
    return len(strides) <= len(sizes) and all(
        abs(places - pixels / stride) < 1
        for stride, size in zip(strides, sizes, strict=False)
        for places, pixels in zip(size, image_size, strict=True)
    )


def losses_are_sound(trial: Trial) -> Iterator[Finding]:
    """No loss is infinite, not a number, or negative."""
    for name, value in trial.losses.items():
        text = f"{name} is {value} in the first step"
        if not math.isfinite(value):
            yield Finding(text, "look for a wrong width, stride or number of classes in this head")
        elif value < 0:
            remedy = (
                "most losses are never negative: see that this one gets what it is made for (IoU "
                "losses of decoded boxes want reg_decoded_bbox=True)"
            )
            yield Finding(text, remedy, is_wrong=False)


def gradients_reach_parameters(trial: Trial) -> Iterator[Finding]:
    """Every parameter that learns has a gradient after the step."""
    without = [
        name
        for name, parameter in trial.model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if trial.losses and without:
        more = f" and {len(without) - 4} more" if len(without) > 4 else ""
        # as mmengine's runner: the wrapper's own setting counts where a wrapper is told
        wrapper = trial.cfg.get("model_wrapper_cfg")
        are_looked_for = (trial.cfg if wrapper is None else wrapper).get("find_unused_parameters")
        yield Finding(
            f"no gradient in {len(without)} parameters: {', '.join(without[:4])}{more}",
            "distributed training waits for them for ever: take out the part that nobody reads, "
            "or set find_unused_parameters=True",
            is_wrong=not are_looked_for,
        )


def prediction_succeeds(trial: Trial) -> Iterator[Finding]:
    """The model predicts an image."""
    model = trial.model
    model.train(False)
    try:
        if model_scope(trial.cfg) != "mmseg":
            # here, since it needs pycocotools, which comes with mmdet
            from xcit_dense.predict import encode_masks

            encode_masks(model)  # mmdet's own way fails where boxes miss a small image
        batch = model.data_preprocessor(random_batch(trial, 1), training=False)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**batch, mode="predict")
        trial.flops = counter.get_total_flops()
    except Exception as error:
        yield failure("a prediction", error)


CHECKS = [
    widths_fit_levels,
    training_step_succeeds,
    strides_fit_maps,
    losses_are_sound,
    gradients_reach_parameters,
    prediction_succeeds,
]
"""In order: the later ones look at what the training step did."""
