"""The three namings of XCiT's tensors: ours, timm's and that of the paper's release."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from xcit_dense.errors import UserError

NAMINGS = ("xcit_dense", "timm", "official")

# What names of the release begin with, and ours. The first that fits counts.
_NAMES = {
    "patch_embed.proj.": "trunk.patch_embedding.",
    "pos_embeder.token_projection.": "trunk.position_encoding.projection.",
    "fpn1.": "pyramid.levels.0.",
    "fpn2.": "pyramid.levels.1.",
}
_NAMES_IN_A_BLOCK = {
    "norm1.": "attention_norm.",
    "attn.proj.": "attention.projection.",
    "attn.": "attention.",
    "gamma1": "attention_layer_scale",
    "norm3.": "interaction_norm.",
    "local_mp.bn.": "interaction.norm.",
    "local_mp.": "interaction.",
    "gamma3": "interaction_layer_scale",
    "norm2.": "ffn_norm.",
    "mlp.": "ffn.",
    "gamma2": "ffn_layer_scale",
}
_BLOCK = re.compile(r"(?:trunk\.)?(blocks\.\d+\.)(.+)")
_OFFICIAL_POSITION, _TIMM_POSITION = "pos_embeder.", "pos_embed."

# Parts that a dense-prediction backbone has no place for.
_CLASSIFICATION = {
    "class attention": re.compile(r"cls_token$|cls_attn_blocks\.|norm\."),
    "classifier": re.compile(r"head\."),
}
# Query, key and value of class attention are one tensor in the release and three in timm.
_JOINED = re.compile(r"(.*cls_attn_blocks\.\d+\.attn\.)qkv\.(weight|bias)$")
_SPLIT = re.compile(r"(.*cls_attn_blocks\.\d+\.attn\.)([qkv])\.(weight|bias)$")


def rename_key(key: str) -> str:
    """Our name for a published key of the backbone.

    A key that has no name of ours comes back as it is: our own names, and those of class attention
    and classifier, which :func:`classification_part` tells apart.
    """
    if key.startswith(_TIMM_POSITION):
        key = _OFFICIAL_POSITION + key.removeprefix(_TIMM_POSITION)
    if match := _BLOCK.match(key):
        return "trunk." + match[1] + _exchange(match[2], _NAMES_IN_A_BLOCK)
    return _exchange(key, _NAMES)


def _official_key(key: str) -> str:
    if match := _BLOCK.match(key):
        names = {ours: official for official, ours in _NAMES_IN_A_BLOCK.items()}
        return match[1] + _exchange(match[2], names)
    return _exchange(key, {ours: official for official, ours in _NAMES.items()})


def _exchange(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def classification_part(key: str) -> str | None:
    """``'class attention'`` or ``'classifier'`` for a key of these; None for any other."""
    for part, pattern in _CLASSIFICATION.items():
        if pattern.match(key):
            return part
    return None


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a published state dict the key names of the ``XCiT`` backbone.

    Takes the names of the paper's release, of timm, and of checkpoints of dense tasks, whose
    backbone stands under ``backbone.``: of these only the backbone is kept. Class attention and
    classifier are left out. Our own names stay as they are. A prefix ``module.``, which wrappers
    for several processes add, is taken off.

    Args:
        state_dict: tensors by name.

    Returns:
        Tensors by our names, the same tensors.
    """
    return {
        rename_key(name): tensor
        for name, tensor in backbone_tensors(state_dict).items()
        if classification_part(name) is None
    }


def backbone_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the backbone alone, without what stands before their names; the same tensors."""
    prefix = backbone_prefix(state_dict)
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in state_dict.items()
        if key.startswith(prefix)
    }


def backbone_prefix(state_dict: Mapping[str, Tensor]) -> str:
    """What stands before the names of the backbone: any of ``module.`` and ``backbone.``."""
    prefix = "module." if all(key.startswith("module.") for key in state_dict) else ""
    if any(key.startswith(prefix + "backbone.") for key in state_dict):
        prefix += "backbone."
    return prefix


def rename_state_dict(state_dict: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """Give a state dict the names of another naming; every tensor and the order are kept.

    The backbone is renamed, whether it stands alone or under ``backbone.``; the rest of a detector
    or segmentor keeps its names. So does what has no name of ours: class attention and classifier.
    timm keeps query, key and value of class attention apart and the release keeps them in one
    tensor: for these two they are split and joined. timm has no pyramid; under its naming the
    pyramid keeps the release's names ``fpn1`` and ``fpn2``.

    Args:
        state_dict: tensors by name, in any of the namings.
        naming: ``xcit_dense``, ``timm`` or ``official``.

    Raises:
        UserError: an unknown naming, or two tensors that would get the same name.
    """
    if naming not in NAMINGS:
        raise UserError(f"naming={naming!r}: must be one of {', '.join(NAMINGS)}")
    if naming == "timm":
        state_dict = split_class_attention(state_dict)
    elif naming == "official":
        state_dict = join_class_attention(state_dict)
    prefix = backbone_prefix(state_dict)
    renamed: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        is_of_backbone = key.startswith(prefix)
        name = prefix + _name_in(naming, key.removeprefix(prefix)) if is_of_backbone else key
        if name in renamed:
            raise UserError(f"{key} and another tensor of the file would both be called {name}")
        renamed[name] = tensor
    return renamed


def _name_in(naming: str, key: str) -> str:
    name = rename_key(key)
    if naming == "xcit_dense":
        return name
    name = _official_key(name)
    if naming == "timm" and name.startswith(_OFFICIAL_POSITION):
        return _TIMM_POSITION + name.removeprefix(_OFFICIAL_POSITION)
    return name


def split_class_attention(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Three tensors (C, ...) in the place of each (3 C, ...), in timm's order.

    Source: timm's ``xcit.py``, which splits the release's tensors in the same order.
    """
    split: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        if not (match := _JOINED.match(key)):
            split[key] = tensor
        elif f"{match[1]}q.weight" not in split:  # the bias went along with its weight
            kinds = [kind for kind in ("weight", "bias") if f"{match[1]}qkv.{kind}" in state_dict]
            thirds = {kind: state_dict[f"{match[1]}qkv.{kind}"].chunk(3) for kind in kinds}
            for index, part in enumerate("qkv"):
                for kind in kinds:
                    # a copy of its own: some formats refuse tensors that share memory
                    split[f"{match[1]}{part}.{kind}"] = thirds[kind][index].clone()
    return split


def join_class_attention(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One tensor (3 C, ...) in the place of each three (C, ...), in the release's order."""
    joined: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        match = _SPLIT.match(key)
        parts = [f"{match[1]}{part}.{match[3]}" for part in "qkv"] if match else []
        if not match or not all(part in state_dict for part in parts):
            joined[key] = tensor
        elif match[2] == "q":
            joined[f"{match[1]}qkv.{match[3]}"] = torch.cat([state_dict[part] for part in parts])
    return joined
