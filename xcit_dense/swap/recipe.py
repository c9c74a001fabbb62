"""The optimizer and the schedule: from one for the old backbone to one for XCiT."""

import copy

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config_tree import type_name, unsynchronize
from xcit_dense.swap.model_swap import ModelSwap
from xcit_dense.swap.parameter_keys import (
    TRANSFORMER_KEYS,
    no_decay_keys,
    pyramid_keys,
)
from xcit_dense.swap.swap_error import SwapError, located

# Source: the recipes of the XCiT paper's release, for batches of 16 images.
_OPTIMIZERS = {
    "mmdet": {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05},
    "mmseg": {"type": "AdamW", "lr": 6e-5, "betas": (0.9, 0.999), "weight_decay": 0.01},
}
_BATCH_SIZE = 16
_WARM_UP_ITERATIONS = {"mmdet": 500, "mmseg": 1500}
_LAYER_DECAY = "LayerDecayOptimWrapperConstructor"
_RATES_OF_LAYERS = ("decay_rate", "layer_decay_rate")
_LAYER_DECAY_OPTIONS = ("num_layers", "decay_type", *_RATES_OF_LAYERS)


def swap_recipe(cfg: dict, scope: str, swap: ModelSwap) -> list[str]:
    """Give a config the optimizer that XCiT wants, in place.

    Args:
        cfg: the whole config.
        scope: ``mmdet`` or ``mmseg``.
        swap: what was swapped in its model.

    Returns:
        What was changed, one sentence each.
    """
    wrapper = cfg.get("optim_wrapper")
    if not wrapper or not wrapper.get("optimizer"):
        has = "no single optimizer, and stays as it is" if wrapper else "none"
        return [f"optim_wrapper: the config has {has}; use AdamW with no decay for XCiT's norms."]
    notes = []
    if type_name(wrapper["optimizer"]) != "AdamW":
        notes += _use_adamw(cfg, scope)
    # torch's own: mmengine multiplies it by the factors below, and fails where it is not told
    wrapper["optimizer"].setdefault("weight_decay", 0.01)
    paramwise = dict(wrapper.get("paramwise_cfg") or {})
    notes += _use_layers_of_xcit(wrapper, paramwise)
    paramwise["norm_decay_mult"] = 0.0
    wrapper["paramwise_cfg"] = paramwise
    new_names = _parameter_names(swap.new, swap.prefix)
    notes += _shorten_keys(paramwise, swap.prefix)
    old_names = swap.old.parameter_names
    notes += _forget_foreign_keys(paramwise, old_names, new_names, cfg["model"], scope)
    _spare_from_decay(paramwise, new_names)
    return notes


def _use_adamw(cfg: dict, scope: str) -> list[str]:
    wrapper = cfg["optim_wrapper"]
    old = wrapper["optimizer"]
    new = dict(_OPTIMIZERS[scope])
    with located("auto_scale_lr"):
        batch_size = (cfg.get("auto_scale_lr") or {}).get("base_batch_size", _BATCH_SIZE)
        new["lr"] = float(f"{new['lr'] * batch_size / _BATCH_SIZE:.6g}")
    wrapper["optimizer"] = new
    note = f"optim_wrapper: AdamW with lr {new['lr']:g} in the place of {type_name(old)}."
    ratio = new["lr"] / old["lr"] if old.get("lr") else 1.0
    with located("param_scheduler"):
        return [note, *_schedule_for_adamw(cfg, ratio, _WARM_UP_ITERATIONS[scope])]


def _schedule_for_adamw(cfg: dict, ratio: float, warm_up: int) -> list[str]:
    """Scale the rates that a schedule names, and let it begin with a warm-up.

    Args:
        cfg: the whole config, changed in place.
        ratio: of the new learning rate to the old one.
        warm_up: iterations.

    Returns:
        What was added, one sentence each.
    """
    schedulers = cfg.get("param_scheduler")
    if isinstance(schedulers, dict):
        schedulers = cfg["param_scheduler"] = [schedulers]
    if not schedulers:
        return []
    of_rates = [each for each in schedulers if _is_of_rates(each)]
    for scheduler in of_rates:
        for key in ("eta_min", "eta_max", "min_value"):
            if scheduler.get(key):
                scheduler[key] = round(scheduler[key] * ratio, 12)
    if any(_warms_up(scheduler) for scheduler in of_rates):
        return []
    linear = {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False}
    schedulers.insert(0, {**linear, "begin": 0, "end": warm_up})
    return [f"param_scheduler: warm-up of {warm_up} iterations."]


def _is_of_rates(scheduler: dict) -> bool:
    if type_name(scheduler).endswith("ParamScheduler"):
        return scheduler.get("param_name") == "lr"
    return not type_name(scheduler).endswith("Momentum")


def _warms_up(scheduler: dict) -> bool:
    name = type_name(scheduler)
    if name.startswith("Linear"):
        return scheduler.get("start_factor", 1 / 3) < scheduler.get("end_factor", 1.0)
    return "Warmup" in name or name.startswith(("Constant", "OneCycle"))


def _use_layers_of_xcit(wrapper: dict, paramwise: dict) -> list[str]:
    """Layer-wise decay counts the layers of a backbone; ours counts XCiT's."""
    old = wrapper.get("constructor", "")
    rate = next((paramwise[key] for key in _RATES_OF_LAYERS if key in paramwise), None)
    if rate is None:
        return []
    for option in _LAYER_DECAY_OPTIONS:
        paramwise.pop(option, None)
    paramwise["decay_rate"] = rate
    if old == _LAYER_DECAY:
        return []
    wrapper["constructor"] = _LAYER_DECAY
    paramwise.setdefault("bias_decay_mult", 0.0)  # as mmdet's and mmseg's
    return [f"optim_wrapper.constructor: {old} gives way to the one that knows XCiT's layers."]


def _spare_from_decay(paramwise: dict, names: tuple[str, ...]) -> None:
    """No decay for temperatures and layer scales, nor for norms that other keys would take."""
    keys = paramwise["custom_keys"]
    keys |= pyramid_keys(keys, names)
    paramwise["custom_keys"] = keys | no_decay_keys(keys, names)


def _shorten_keys(paramwise: dict, prefix: str) -> list[str]:
    """Write ``detector.backbone`` as ``backbone``: the longest key wins, and XCiT's are short."""
    keys = dict(paramwise.get("custom_keys") or {})
    if not prefix:
        return []
    whole = f"{prefix}backbone"
    for key in [key for key in keys if key == whole or key.startswith(f"{whole}.")]:
        keys[key.removeprefix(prefix)] = keys.pop(key)
    is_shortened = whole in (paramwise.get("custom_keys") or {})
    paramwise["custom_keys"] = keys
    if not is_shortened:
        return []
    return [f"optim_wrapper.paramwise_cfg: {prefix}backbone is backbone now: the longest key wins."]


def _forget_foreign_keys(
    paramwise: dict,
    old_names: tuple[str, ...],
    new_names: tuple[str, ...],
    model: dict,
    scope: str,
) -> list[str]:
    """No keys that named parts of the old backbone, and name none of the new model."""
    keys = dict(paramwise.get("custom_keys") or {})
    unmatched = [key for key in keys if not _matches(key, new_names)]
    gone = [key for key in unmatched if key.startswith("backbone.") or key in TRANSFORMER_KEYS]
    doubtful = [key for key in unmatched if key not in gone and _matches(key, old_names)]
    if doubtful:  # a word such as bn may be for a head, too
        names = _names_beside_the_backbone(model, scope)
        gone += [key for key in doubtful if not _matches(key, names)]
    paramwise["custom_keys"] = {key: value for key, value in keys.items() if key not in gone}
    if not gone:
        return []
    named = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
    return [f"optim_wrapper.paramwise_cfg: without {named}, which named parts of the old backbone."]


def _matches(key: str, names: tuple[str, ...]) -> bool:
    return any(key in name for name in names)


def _names_beside_the_backbone(model: dict, scope: str) -> tuple[str, ...]:
    try:
        with DefaultScope.overwrite_default_scope(scope):
            model = copy.deepcopy(model)
            unsynchronize(model)
            built = MODELS.build(ConfigDict(model))
    except Exception as error:
        reason = f"can not be built, to tell what custom_keys name: {type(error).__name__}: {error}"
        raise SwapError("model", reason) from error
    return tuple(name for name, _ in built.named_parameters() if "backbone." not in name)


def _parameter_names(backbone: dict, prefix: str) -> tuple[str, ...]:
    settings = {key: copy.deepcopy(value) for key, value in backbone.items() if key != "type"}
    unsynchronize(settings)
    with torch.device("meta"):
        model = XCiT(**settings)
    return tuple(f"{prefix}backbone.{name}" for name, _ in model.named_parameters())
