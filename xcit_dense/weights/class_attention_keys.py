"""Class attention in checkpoints: one tensor for query, key and value, or three.

The paper's release keeps them in one, timm in three (it computes only the class token's query).
Source: timm's ``xcit.py``, which splits the release's tensors in the same order.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_JOINED = re.compile(r"(.*cls_attn_blocks\.\d+\.attn\.)qkv\.(weight|bias)$")
_SPLIT = re.compile(r"(.*cls_attn_blocks\.\d+\.attn\.)([qkv])\.(weight|bias)$")


def split_class_attention(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Three tensors (C, ...) in the place of each (3 C, ...), in timm's order."""
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
