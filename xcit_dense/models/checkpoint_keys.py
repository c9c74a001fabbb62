"""From the key names of published checkpoints to ours."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# (pattern of the paper's release or of timm, our name); the first pattern that matches counts.
_RENAMES = [
    (r"patch_embed\.proj\.", "trunk.patch_embedding."),
    (r"pos_embede?r?\.token_projection\.", "trunk.position_encoding.projection."),
    (r"blocks\.(\d+)\.norm1\.", r"trunk.blocks.\1.attention_norm."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"trunk.blocks.\1.attention.projection."),
    (r"blocks\.(\d+)\.attn\.", r"trunk.blocks.\1.attention."),
    (r"blocks\.(\d+)\.gamma1$", r"trunk.blocks.\1.attention_layer_scale"),
    (r"blocks\.(\d+)\.norm3\.", r"trunk.blocks.\1.interaction_norm."),
    (r"blocks\.(\d+)\.local_mp\.bn\.", r"trunk.blocks.\1.interaction.norm."),
    (r"blocks\.(\d+)\.local_mp\.", r"trunk.blocks.\1.interaction."),
    (r"blocks\.(\d+)\.gamma3$", r"trunk.blocks.\1.interaction_layer_scale"),
    (r"blocks\.(\d+)\.norm2\.", r"trunk.blocks.\1.ffn_norm."),
    (r"blocks\.(\d+)\.mlp\.", r"trunk.blocks.\1.ffn."),
    (r"blocks\.(\d+)\.gamma2$", r"trunk.blocks.\1.ffn_layer_scale"),
    (r"fpn1\.", "pyramid.levels.0."),
    (r"fpn2\.", "pyramid.levels.1."),
]
_RENAMES = [(re.compile(pattern), ours) for pattern, ours in _RENAMES]

# Class attention and classifier: a dense-prediction backbone has no place for them.
_CLASSIFICATION = re.compile(r"(cls_token$|cls_attn_blocks\.|norm\.|head\.)")


def rename_key(key: str) -> str | None:
    """Our name for a published key of the backbone; None for a part that we do not have.

    A key that is not a published one, ours among them, comes back as it is.
    """
    if _CLASSIFICATION.match(key):
        return None
    for pattern, ours in _RENAMES:
        if match := pattern.match(key):
            return match.expand(ours) + key[match.end() :]
    return key


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a published state dict the key names of the ``XCiT`` backbone.

    Takes the names of the paper's release, of timm, and of checkpoints of dense tasks, whose
    backbone stands under ``backbone.``: of these only the backbone is kept. Class attention and
    classifier are left out. Our own names stay as they are.

    Args:
        state_dict: tensors by name.

    Returns:
        Tensors by our names, the same tensors.
    """
    prefix = "backbone."
    if any(key.startswith(prefix) for key in state_dict):
        state_dict = {
            key.removeprefix(prefix): tensor
            for key, tensor in state_dict.items()
            if key.startswith(prefix)
        }
    renamed = {rename_key(key): tensor for key, tensor in state_dict.items()}
    renamed.pop(None, None)
    return renamed


def unwrap_checkpoint(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict in a checkpoint: under ``state_dict``, under ``model``, or the whole of it."""
    for name in ("state_dict", "model"):
        if isinstance(checkpoint.get(name), Mapping):
            return checkpoint[name]
    return checkpoint
