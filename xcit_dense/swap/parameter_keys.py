"""Which parameters of XCiT learn at other settings than the rest: mmengine's ``custom_keys``."""

import re
from collections.abc import Mapping

TRANSFORMER_KEYS = (
    "absolute_pos_embed",
    "relative_position_bias_table",
    "rel_pos_bias",
    "pos_block",
    "cls_token",
)
"""Names of parameters that only other transformer backbones have."""

_ALWAYS = ("temperature", "layer_scale")
# Norms are found by mmengine itself (norm_decay_mult), except where a custom key takes them first.
_NORM = re.compile(
    r"(?P<key>attention_norm|interaction_norm|interaction\.norm|\.ffn_norm"
    r"|patch_embedding\.\d+\.1|pyramid\.levels\.\w+\.1)\.(weight|bias)$"
)


def pyramid_keys(others: Mapping[str, Mapping], names: tuple[str, ...]) -> dict[str, dict]:
    """The key that lets the pyramid learn at the full rate where the backbone is slowed.

    Backbones are slowed because they are pretrained, and no ImageNet weights have a pyramid.

    Args:
        others: ``custom_keys`` that stay.
        names: parameters of the backbone, as in the whole model.

    Returns:
        ``custom_keys`` to add.
    """
    key = "backbone.pyramid"
    example = next((name for name in names if key in name), "")
    outdone = _outdone(example, others)
    if outdone is None or others[outdone].get("lr_mult", 1.0) == 1.0:
        return {}
    return {key: {"lr_mult": 1.0}}


def no_decay_keys(others: Mapping[str, Mapping], names: tuple[str, ...]) -> dict[str, dict]:
    """The keys that take XCiT's temperatures, layer scales and norms out of weight decay.

    mmengine applies the longest key that is part of a name, and no other. So a key takes over the
    factor of the learning rate from the one that it outdoes, such as ``backbone``; and where one of
    the others would take a norm, that norm needs a key of its own.

    Args:
        others: ``custom_keys`` that stay.
        names: parameters of the backbone, as in the whole model.

    Returns:
        ``custom_keys`` to add.
    """
    keys = {key: _settings(key, others, names) for key in _ALWAYS}
    for name in names:
        match = _NORM.search(name)
        outdone = _outdone(name, others)
        if match and outdone and others[outdone].get("decay_mult") != 0:
            keys[match["key"]] = _settings(match["key"], others, names)
    return keys


def _settings(key: str, others: Mapping[str, Mapping], names: tuple[str, ...]) -> dict:
    settings = {"decay_mult": 0.0}
    example = next((name for name in names if key in name), "")
    outdone = _outdone(example, {other: value for other, value in others.items() if other != key})
    if outdone and others[outdone].get("lr_mult", 1.0) != 1.0:
        settings["lr_mult"] = others[outdone]["lr_mult"]
    return settings


def _outdone(name: str, others: Mapping[str, Mapping]) -> str | None:
    """The key among the others that mmengine would apply to a parameter."""
    matching = [key for key in sorted(others) if key in name]
    return max(matching, key=len, default=None)
