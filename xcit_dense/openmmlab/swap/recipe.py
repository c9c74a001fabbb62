"""The optimizer and the schedule: from one for the old backbone to one for XCiT."""

import torch

from xcit_dense.openmmlab.backbone import XCiT
from xcit_dense.openmmlab.swap.parameter_keys import no_decay_keys, pyramid_keys

# Source: the recipes of the XCiT paper's release, for batches of 16 images.
_OPTIMIZERS = {
    "mmdet": {"type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05},
    "mmseg": {"type": "AdamW", "lr": 6e-5, "betas": (0.9, 0.999), "weight_decay": 0.01},
}
_BATCH_SIZE = 16
_WARM_UP_ITERATIONS = {"mmdet": 500, "mmseg": 1500}
# names of parameters that only other transformer backbones have
_FOREIGN_KEYS = (
    "absolute_pos_embed",
    "relative_position_bias_table",
    "rel_pos_bias",
    "pos_block",
    "cls_token",
)
_LAYER_DECAY_OPTIONS = ("num_layers", "decay_type", "decay_rate", "layer_decay_rate")


def swap_recipe(cfg: dict, scope: str, old_names: tuple[str, ...], backbone: dict) -> list[str]:
    """Give a config the optimizer that XCiT wants, in place.

    Args:
        cfg: the whole config.
        scope: ``mmdet`` or ``mmseg``.
        old_names: parameters of the old backbone.
        backbone: the dict of the new one.

    Returns:
        What was changed, one sentence each.
    """
    wrapper = cfg.get("optim_wrapper")
    if not wrapper or "optimizer" not in wrapper:
        return ["optim_wrapper: the config has none; use AdamW with no decay for XCiT's norms."]
    notes = []
    if wrapper["optimizer"].get("type") != "AdamW":
        notes += _use_adamw(cfg, scope)
    paramwise = dict(wrapper.get("paramwise_cfg") or {})
    notes += _use_layers_of_xcit(wrapper, paramwise)
    wrapper["paramwise_cfg"] = paramwise
    notes += _spare_from_decay(paramwise, old_names, backbone)
    return notes


def _use_adamw(cfg: dict, scope: str) -> list[str]:
    wrapper = cfg["optim_wrapper"]
    old = wrapper["optimizer"]
    new = dict(_OPTIMIZERS[scope])
    batch_size = cfg.get("auto_scale_lr", {}).get("base_batch_size", _BATCH_SIZE)
    new["lr"] *= batch_size / _BATCH_SIZE
    wrapper["optimizer"] = new
    notes = [f"optim_wrapper: AdamW with lr {new['lr']:g} in the place of {old.get('type')}."]
    schedulers = cfg.get("param_scheduler")
    if isinstance(schedulers, dict):
        schedulers = cfg["param_scheduler"] = [schedulers]
    if not schedulers:
        return notes
    for scheduler in schedulers:
        if scheduler.get("eta_min") and old.get("lr"):
            scheduler["eta_min"] = round(scheduler["eta_min"] * new["lr"] / old["lr"], 12)
    if not any(
        "Warmup" in s["type"] or s["type"] in ("LinearLR", "ConstantLR") for s in schedulers
    ):
        iterations = _WARM_UP_ITERATIONS[scope]
        warm_up = {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False}
        schedulers.insert(0, {**warm_up, "begin": 0, "end": iterations})
        notes.append(f"param_scheduler: warm-up of {iterations} iterations.")
    return notes


def _use_layers_of_xcit(wrapper: dict, paramwise: dict) -> list[str]:
    """Layer-wise decay counts the layers of a backbone; ours counts XCiT's."""
    old = wrapper.get("constructor", "")
    if not any(option in paramwise for option in _LAYER_DECAY_OPTIONS):
        return []
    rate = paramwise.get("decay_rate", paramwise.get("layer_decay_rate"))
    for option in _LAYER_DECAY_OPTIONS:
        paramwise.pop(option, None)
    paramwise["decay_rate"] = rate
    wrapper["constructor"] = "LayerDecayOptimWrapperConstructor"
    return [f"optim_wrapper.constructor: {old} gives way to the one that knows XCiT's layers."]


def _spare_from_decay(paramwise: dict, old_names: tuple[str, ...], backbone: dict) -> list[str]:
    """No decay for norms, temperatures and layer scales; no keys of the old backbone."""
    new_names = _parameter_names(backbone)
    keys = dict(paramwise.get("custom_keys") or {})
    gone = [key for key in keys if _is_foreign(key, old_names) and not _matches(key, new_names)]
    keys = {key: value for key, value in keys.items() if key not in gone}
    keys |= pyramid_keys(keys, new_names)
    paramwise["norm_decay_mult"] = 0.0
    paramwise["custom_keys"] = keys | no_decay_keys(keys, new_names)
    if not gone:
        return []
    named = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
    return [f"optim_wrapper.paramwise_cfg: without {named}, which named parts of the old backbone."]


def _is_foreign(key: str, old_names: tuple[str, ...]) -> bool:
    if key.startswith("backbone."):
        return True
    return key in _FOREIGN_KEYS or _matches(key, old_names)


def _matches(key: str, names: tuple[str, ...]) -> bool:
    return any(key in name for name in names)


def _parameter_names(backbone: dict) -> tuple[str, ...]:
    with torch.device("meta"):
        model = XCiT(**{key: value for key, value in backbone.items() if key != "type"})
    return tuple(f"backbone.{name}" for name, _ in model.named_parameters())
