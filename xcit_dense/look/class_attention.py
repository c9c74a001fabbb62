"""Class attention of the published classification models: what the paper's attention maps show.

In these models two more blocks follow the trunk, in which a class token attends to the places
(XCiT paper, section 3.3, after CaiT, arXiv 2103.17239). A backbone for dense prediction has no such
blocks; they are timm's here, with the tensors of a classification checkpoint.
"""

import re
from collections.abc import Mapping
from functools import partial

import torch
from timm.models.xcit import ClassAttentionBlock
from torch import Tensor, nn

from xcit_dense.errors import UserError
from xcit_dense.network import Trunk
from xcit_dense.weights import convert_state_dict, identify, rename_state_dict

_TENSOR = re.compile(r"cls_attn_blocks\.(\d+)\.(.+)")
# The release's nano models norm only the class token before the feed-forward network, the others
# all tokens; the tensors do not tell (source: its model definitions).
_WIDTH_THAT_NORMS_THE_CLASS_TOKEN_ONLY = 128


def has_class_attention(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether there are class attention blocks in a published state dict."""
    return "cls_token" in state_dict and any(map(_TENSOR.match, state_dict))


@torch.no_grad()
def class_attention(trunk: Trunk, image: Tensor, state_dict: Mapping[str, Tensor]) -> list[Tensor]:
    """Let the class token attend to the places, as a classification model does.

    Args:
        trunk: with the weights of that model.
        image: (1, in_channels, H, W), prepared as for the model.
        state_dict: of the model, by the names of the release or of timm.

    Returns:
        The attention of each block, (heads, rows, columns) of the grid of patches: how much of
        each place the class token takes in; with what it takes in of itself it sums to one.

    Raises:
        UserError: the trunk ends before the block that class attention follows.
    """
    depth = identify(convert_state_dict(state_dict)).depth
    if len(trunk.blocks) < depth:
        raise UserError(
            f"class attention follows block {depth - 1}, the config's backbone ends with block "
            f"{len(trunk.blocks) - 1}: add --cfg-options model.backbone.out_indices=None"
        )
    tensors_of_blocks: dict[int, dict[str, Tensor]] = {}
    for key, tensor in rename_state_dict(state_dict, "timm").items():
        if match := _TENSOR.match(key):
            tensors_of_blocks.setdefault(int(match[1]), {})[match[2]] = tensor
    last = trunk(image)[-1]
    tokens = torch.cat([state_dict["cls_token"], last.flatten(2).mT], dim=1)
    maps: list[Tensor] = []
    for _, tensors in sorted(tensors_of_blocks.items()):
        block = ClassAttentionBlock(
            trunk.embed_dims,
            trunk.blocks[0].attention.num_heads,
            qkv_bias="attn.q.bias" in tensors,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            tokens_norm=trunk.embed_dims != _WIDTH_THAT_NORMS_THE_CLASS_TOKEN_ONLY,
        ).eval()
        block.load_state_dict(tensors)
        block.attn.fused_attn = False  # so that its attention passes through a module
        block.attn.attn_drop.register_forward_hook(
            lambda _, __, attention: maps.append(attention[0, :, 0, 1:])
        )
        tokens = block(tokens)
    return [places.unflatten(-1, last.shape[-2:]) for places in maps]
