"""The checks of a model, each a function: of what its config says, and of what it does.

Each takes the :class:`Trial` of a model, may note in it what it sees, and yields each
:class:`Finding`. One more is one more function, and its place in the list at the end.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xcit_dense.data.checking import check_config
from xcit_dense.doctor.random_batch import random_batch
from xcit_dense.doctor.trial import Size, Trial, failure
from xcit_dense.errors import Finding
from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config import type_name
from xcit_dense.swap import rules
from xcit_dense.swap.levels import MeasuredBackbone, SwapError, maps_in
from xcit_dense.swap.readers import find_readers

_NOT_DECAYED = ("temperature", "layer_scale")
_OPTIMIZER_SETTINGS = ("constructor", "optimizer", "paramwise_cfg")
_STRIDES = ("featmap_strides", "feature_strides")
_MAKERS_OF_PLACES = ("prior_generator", "anchor_generator")


def custom_keys_match(trial: Trial) -> Iterator[Finding]:
    """Each of the optimizer's ``custom_keys`` is part of the name of a parameter."""
    paramwise = (trial.cfg.get("optim_wrapper") or {}).get("paramwise_cfg") or {}
    prefixes = ["student.", "teacher."] if trial.prefix == "student." else [trial.prefix]
    parameters = [name for name, _ in trial.model.named_parameters()]
    names = [f"{prefix}{name}" for prefix in prefixes for name in parameters]
    for key in paramwise.get("custom_keys") or {}:
        if any(key in name for name in names):
            continue
        remedy = "take it out, or mend its name: what it was to do is not done"
        # mm's own recipes have some for parts that their transformers do without
        is_wrong = key not in rules.TRANSFORMER_KEYS or bool(_parameters_of_xcit(trial))
        if trial.prefix == "detector." and not key.startswith(trial.prefix):
            remedy = "none is needed if it is for the tracker around the detector: not built here"
            is_wrong = False
        text = f"optim_wrapper.paramwise_cfg.custom_keys: {key!r} matches no parameter"
        yield Finding(text, remedy, is_wrong)


def optimizer_spares_xcit(trial: Trial) -> Iterator[Finding]:
    """The optimizer can be built, and has no weight decay for XCiT's temperatures and scales."""
    settings = trial.cfg.get("optim_wrapper") or {}
    optimizer = settings.get("optimizer")
    if not optimizer or type_name(optimizer) == "ZeroRedundancyOptimizer":  # is built distributed
        return
    part = trial.prefix.removesuffix(".")  # its parameters are called as in the whole model
    model = nn.ModuleDict({part: trial.model}) if part else trial.model
    plain = {key: settings[key] for key in _OPTIMIZER_SETTINGS if key in settings}
    try:
        if isinstance(optimizer.type, str) and OPTIMIZERS.get(optimizer.type) is None:
            raise KeyError(optimizer.type)  # mmengine says that None is not callable
        # without mixed precision, which wants a GPU
        built = build_optim_wrapper(model, {"type": "OptimWrapper", **plain}).optimizer
    except Exception as error:
        yield failure("building the optimizer", error)
        return
    groups = [group["params"] for group in built.param_groups if group.get("weight_decay")]
    decayed = {id(parameter) for group in groups for parameter in group}
    of_xcit = _parameters_of_xcit(trial)
    for key in _NOT_DECAYED:
        if any(key in name and id(parameter) in decayed for name, parameter in of_xcit):
            remedy = f"paramwise_cfg=dict(custom_keys=dict({key}=dict(decay_mult=0.0)))"
            yield Finding(f"optim_wrapper: the {key} of XCiT is decayed", remedy, is_wrong=False)


def _parameters_of_xcit(trial: Trial) -> list[tuple[str, nn.Parameter]]:
    backbones = [module for module in trial.model.modules() if isinstance(module, XCiT)]
    return [named for backbone in backbones for named in backbone.named_parameters()]


def config_fits_its_data(trial: Trial) -> Iterator[Finding]:
    """What the config says of its data agrees with itself, and with the heads."""
    yield from check_config(trial.cfg)


def widths_fit_levels(trial: Trial) -> Iterator[Finding]:
    """Neck or heads expect the widths that the backbone gives."""
    backbone = getattr(trial.model, "backbone", None)
    try:
        trial.levels = [] if backbone is None else trial.run(backbone)
    except Exception as error:
        yield failure("running the backbone", error)
        return
    trial.readers = [[] for _ in trial.levels]
    try:
        if not trial.levels:
            raise SwapError(f"{trial.path}.backbone", "gives no plain maps (B, C, H, W)")
        measured = MeasuredBackbone(type_name(trial.config["backbone"]), tuple(trial.levels))
        readers = find_readers(trial.config, trial.path, measured)
    except SwapError as error:
        # a user's own parts may be like none that are known: the training step tells more
        yield Finding(f"widths are not compared: {error}", is_wrong=False)
        return
    for reader in readers:
        for level, width in zip(reader.levels, reader.widths, strict=False):
            trial.readers[level].append(f"{reader.path} ({reader.width_key} {width})")
        try:
            reader.check_widths(measured)
        except SwapError as error:
            yield Finding(str(error), "make the two agree; see the table of levels")


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
            sizes = trial.map_sizes.setdefault(name, [])
            part.forward = partial(_forward_noting, sizes, part.forward)


def _forward_noting(sizes: list[Size], forward: Callable, *arguments: Any, **keywords: Any) -> Any:
    if arguments and not sizes:
        sizes += [tuple(tensor.shape[2:]) for tensor in maps_in(arguments[0])]
    return forward(*arguments, **keywords)


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
            if sizes and not _fit(strides, sizes, trial.image_size):
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
        if not isinstance(value, (list, tuple)):
            continue
        # those of the two directions are compared where they are the same
        several = [stride if isinstance(stride, (list, tuple)) else [stride] for stride in value]
        strides = [stride[0] for stride in several if len(set(stride)) == 1]
        if strides and len(strides) == len(value):
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
            remedy = "see that it gets what it is made for (IoU losses: reg_decoded_bbox=True)"
            yield Finding(text, remedy, is_wrong=False)


def gradients_reach_parameters(trial: Trial) -> Iterator[Finding]:
    """Every parameter that learns has a gradient after the step."""
    without = [
        name
        for name, parameter in trial.model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if trial.losses and without:
        # as mmengine's runner: the wrapper's own setting counts where a wrapper is told
        wrapper = trial.cfg.get("model_wrapper_cfg") or trial.cfg
        yield Finding(
            f"no gradient in {len(without)} parameters, such as {', '.join(without[:4])}",
            "distributed training waits for them for ever: take out the part that nobody reads, "
            "or set find_unused_parameters=True",
            is_wrong=not wrapper.get("find_unused_parameters"),
        )


def prediction_succeeds(trial: Trial) -> Iterator[Finding]:
    """The model predicts an image."""
    model = trial.model
    model.train(False)
    try:
        for part in model.modules():
            if hasattr(getattr(part, "bbox_coder", None), "clip_border"):
                # mmdet pastes no mask in a box that misses the image, as an untrained head's may
                part.bbox_coder.clip_border = True
        batch = model.data_preprocessor(random_batch(trial, 1), training=False)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**batch, mode="predict")
        trial.flops = counter.get_total_flops()
    except Exception as error:
        yield failure("a prediction", error)


CHECKS = [
    custom_keys_match,
    optimizer_spares_xcit,
    config_fits_its_data,
    widths_fit_levels,
    training_step_succeeds,
    strides_fit_maps,
    losses_are_sound,
    gradients_reach_parameters,
    prediction_succeeds,
]
"""In order: the last ones look at what the training step did."""
