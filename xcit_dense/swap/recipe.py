"""Optimizer, schedule and images: from a recipe for the old backbone to one for XCiT."""

import re

import torch

from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config import dicts_in, module_prefix, type_name
from xcit_dense.swap import rules
from xcit_dense.swap.levels import located

# Source: the recipes of the XCiT paper's release, for batches of 16 images.
_OPTIMIZERS = {
    "mmdet": {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05},
    "mmseg": {"type": "AdamW", "lr": 6e-5, "betas": (0.9, 0.999), "weight_decay": 0.01},
}
_BATCH_SIZE = 16
_CUSTOM_KEYS = "optim_wrapper.paramwise_cfg"
_WARM_UP_ITERATIONS = {"mmdet": 500, "mmseg": 1500}
# by its module, so that nothing needs to be imported for it
_LAYER_DECAY = "xcit_dense.mm.layer_decay.LayerDecayOptimWrapperConstructor"
# Source: ImageNet statistics as in torchvision and in the XCiT paper's release, RGB, 0 to 255.
_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
# Norms are found by mmengine itself (norm_decay_mult), except where a custom key takes them first.
_NORM = re.compile(
    r"(?P<key>attention_norm|interaction_norm|interaction\.norm|\.ffn_norm"
    r"|patch_embedding\.\d+\.1|pyramid\.levels\.\w+\.1)\.(weight|bias)$"
)


def use_recipe_of_xcit(cfg: dict, scope: str, path: str, backbone: dict, notes: list[str]) -> None:
    """Give a whole config the optimizer that XCiT wants, in place, and say in ``notes`` what it is.

    ``path`` is where the dict stands that has the backbone: ``model.detector`` in trackers.
    """
    wrapper = cfg.get("optim_wrapper")
    if not wrapper or not wrapper.get("optimizer"):
        has = "no single optimizer, and stays as it is" if wrapper else "none"
        notes.append(f"optim_wrapper: the config has {has}; use AdamW with no decay for norms.")
        return
    if type_name(wrapper["optimizer"]) != "AdamW":
        _use_adamw(cfg, scope, notes)
    # torch's own: mmengine multiplies it by the factors below, and fails where it is not told
    wrapper["optimizer"].setdefault("weight_decay", 0.01)
    paramwise = wrapper["paramwise_cfg"] = dict(wrapper.get("paramwise_cfg") or {})
    _use_layers_of_xcit(wrapper, paramwise, notes)
    paramwise["norm_decay_mult"] = 0.0
    prefix = module_prefix(cfg["model"], path)
    names = _parameter_names(backbone, prefix)
    keys = _keys_that_stay(dict(paramwise.get("custom_keys") or {}), prefix, names, notes)
    paramwise["custom_keys"] = _with_keys_of_xcit(keys, names)


def _use_adamw(cfg: dict, scope: str, notes: list[str]) -> None:
    old, new = cfg["optim_wrapper"]["optimizer"], dict(_OPTIMIZERS[scope])
    with located("auto_scale_lr"):
        batch_size = (cfg.get("auto_scale_lr") or {}).get("base_batch_size", _BATCH_SIZE)
        new["lr"] = float(f"{new['lr'] * batch_size / _BATCH_SIZE:.6g}")
    cfg["optim_wrapper"]["optimizer"] = new
    notes.append(f"optim_wrapper: AdamW with lr {new['lr']:g} in the place of {type_name(old)}.")
    with located("param_scheduler"):
        ratio = new["lr"] / (old.get("lr") or new["lr"])
        _adapt_schedule(cfg, ratio, _WARM_UP_ITERATIONS[scope], notes)


def _adapt_schedule(cfg: dict, ratio: float, warm_up: int, notes: list[str]) -> None:
    """Scale the learning rates that a schedule names, and let it begin with a warm-up."""
    schedulers = cfg.get("param_scheduler")
    if not schedulers:
        return
    if isinstance(schedulers, dict):
        schedulers = cfg["param_scheduler"] = [schedulers]
    of_rates = [
        scheduler
        for scheduler in schedulers
        if scheduler.get("param_name", "lr") == "lr"
        and not type_name(scheduler).endswith("Momentum")
    ]
    for scheduler in of_rates:
        for key in ("eta_min", "eta_max", "min_value"):
            if scheduler.get(key):
                scheduler[key] = round(scheduler[key] * ratio, 12)
    if not any(_warms_up(scheduler) for scheduler in of_rates):
        linear = {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False}
        schedulers.insert(0, {**linear, "begin": 0, "end": warm_up})
        notes.append(f"param_scheduler: warm-up of {warm_up} iterations.")


def _warms_up(scheduler: dict) -> bool:
    name = type_name(scheduler)
    if name.startswith("Linear"):
        return scheduler.get("start_factor", 1 / 3) < scheduler.get("end_factor", 1.0)
    return "Warmup" in name or name.startswith(("Constant", "OneCycle"))


def _use_layers_of_xcit(wrapper: dict, paramwise: dict, notes: list[str]) -> None:
    """Layer-wise decay counts the layers of a backbone; ours counts XCiT's."""
    rates = [paramwise[key] for key in rules.LAYER_RATE_KEYS if key in paramwise]
    if not rates:
        return
    for key in ("num_layers", "decay_type", *rules.LAYER_RATE_KEYS):
        paramwise.pop(key, None)
    paramwise["decay_rate"] = rates[0]
    paramwise.setdefault("bias_decay_mult", 0.0)  # as mmdet's and mmseg's constructors have it
    old, wrapper["constructor"] = wrapper.get("constructor"), _LAYER_DECAY
    if old != _LAYER_DECAY:
        notes.append(f"optim_wrapper.constructor: one that knows XCiT's layers, instead of {old}.")


def _keys_that_stay(
    keys: dict[str, dict], prefix: str, names: tuple[str, ...], notes: list[str]
) -> dict[str, dict]:
    """Leave out keys of parts of the old backbone, and shorten those of a backbone deep inside.

    ``detector.backbone`` becomes ``backbone``: the longest key wins, and XCiT's are short.
    """
    whole = f"{prefix}backbone"
    inner = [key for key in keys if prefix and f"{key}.".startswith(f"{whole}.")]
    kept = {key: value for key, value in keys.items() if key not in inner}
    kept |= {key.removeprefix(prefix): keys[key] for key in inner}
    if whole in inner:
        notes.append(f"{_CUSTOM_KEYS}: {whole} is backbone now: the longest key wins.")
    foreign = [
        key
        for key in kept
        if (key.startswith("backbone.") or key in rules.TRANSFORMER_KEYS)
        and not any(key in name for name in names)
    ]
    if foreign:
        gone = ", ".join(foreign)
        notes.append(f"{_CUSTOM_KEYS}: without {gone}, which named parts of the old backbone.")
    return {key: value for key, value in kept.items() if key not in foreign}


def _parameter_names(backbone: dict, prefix: str) -> tuple[str, ...]:
    # MMSyncBN, which has the same names, wants several processes
    settings = {**backbone, "norm_cfg": {"type": "BN"}}
    settings.pop("type")
    with torch.device("meta"):
        model = XCiT(**settings)
    return tuple(f"{prefix}backbone.{name}" for name, _ in model.named_parameters())


def _with_keys_of_xcit(keys: dict[str, dict], names: tuple[str, ...]) -> dict[str, dict]:
    """Add ``custom_keys`` that take XCiT's temperatures, layer scales and norms out of decay.

    mmengine applies the longest key that is part of a name, and no other. So a key takes over the
    factor of the learning rate from the one that it outdoes, such as ``backbone``; where one of
    the others would take a norm, that norm needs a key of its own; and where the backbone is slowed
    because it is pretrained, the pyramid needs one, since no ImageNet weights have a pyramid.
    """
    pyramid = "backbone.pyramid"
    slowed = _applied(pyramid, keys, names)
    if slowed and slowed.get("lr_mult", 1.0) != 1.0:
        keys = keys | {pyramid: {"lr_mult": 1.0}}
    spared = ["temperature", "layer_scale"]
    for name in names:
        norm, taken = _NORM.search(name), _applied(name, keys, names)
        if norm and taken and taken.get("decay_mult") != 0:
            spared.append(norm["key"])
    added = {}
    for key in spared:
        others = {other: value for other, value in keys.items() if other != key}
        rate = (_applied(key, others, names) or {}).get("lr_mult", 1.0)
        added[key] = {"decay_mult": 0.0} | ({} if rate == 1.0 else {"lr_mult": rate})
    return keys | added


def _applied(part: str, keys: dict[str, dict], names: tuple[str, ...]) -> dict | None:
    """What ``custom_keys`` give to the first parameter with this in its name, if any."""
    name = next((name for name in names if part in name), "")
    matching = [key for key in sorted(keys) if key in name]
    return keys[max(matching, key=len)] if matching else None


def normalize_as_imagenet(cfg: dict, notes: list[str]) -> None:
    """Set mean, deviation and channel order of every data preprocessor of a config, in place.

    Preprocessors of images with other than three channels stay as they are, and so do those behind
    a pipeline that normalizes.
    """
    loaders = [cfg.get(key) for key in ("train_dataloader", "test_dataloader")]
    if any(type_name(node) == "Normalize" for _, node in dicts_in(loaders)):
        notes.append("The pipeline normalizes, as before; XCiT's weights expect ImageNet's RGB.")
        return
    nodes = list(dicts_in({key: cfg.get(key) for key in ("data_preprocessor", "model")}))
    if any(type_name(node) == "XCiT" and node.get("in_channels", 3) != 3 for _, node in nodes):
        return
    for path, node in nodes:
        if path.endswith(".data_preprocessor") and _prepares_rgb(node):
            before = dict(node)
            node.update(mean=list(_MEAN), std=list(_STD), bgr_to_rgb=True)
            if node.get("rgb_to_bgr"):
                node["rgb_to_bgr"] = False
            if node != before:
                notes.append(f"{path[1:]} normalizes as ImageNet, RGB, as XCiT's weights expect.")


def _prepares_rgb(preprocessor: dict) -> bool:
    """Whether it is for images of three channels, and does not leave them to a nested model."""
    return (
        type_name(preprocessor) not in rules.PREPROCESSOR_WRAPPERS
        and len(preprocessor.get("mean") or [0] * 3) == 3
        and any(key in preprocessor for key in rules.IMAGE_KEYS)
    )
