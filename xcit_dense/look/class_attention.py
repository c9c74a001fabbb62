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

from xcit_dense.weights import rename_state_dict

_TENSOR = re.compile(r"cls_attn_blocks\.(\d+)\.(.+)")
# The release's nano models norm only the class token before the feed-forward network, the others
# all tokens; the tensors do not tell (source: its model definitions).
_WIDTH_THAT_NORMS_THE_CLASS_TOKEN_ONLY = 128


def has_class_attention(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether there are class attention blocks in a published state dict."""
    return "cls_token" in state_dict and any(map(_TENSOR.match, state_dict))


@torch.no_grad()
def class_attention(
    state_dict: Mapping[str, Tensor], tokens: Tensor, num_heads: int
) -> list[Tensor]:
    """Let the class token attend to the places, as a classification model does.

    Args:
        state_dict: tensors of a classification model, by the names of the release or of timm.
        tokens: (B, N, C), what the last block of the trunk gives.
        num_heads: heads of the attention.

    Returns:
        The attention of each block, (B, heads, N), how much of each place the class token takes
        in; with what it takes in of itself it sums to one.
    """
    tensors_of_blocks: dict[int, dict[str, Tensor]] = {}
    for key, tensor in rename_state_dict(state_dict, "timm").items():
        if match := _TENSOR.match(key):
            tensors_of_blocks.setdefault(int(match[1]), {})[match[2]] = tensor
    class_token = state_dict["cls_token"].to(tokens).expand(len(tokens), -1, -1)
    tokens = torch.cat([class_token, tokens], dim=1)
    maps: list[Tensor] = []
    for _, tensors in sorted(tensors_of_blocks.items()):
        block = ClassAttentionBlock(
            tokens.shape[-1],
            num_heads,
            qkv_bias="attn.q.bias" in tensors,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            tokens_norm=tokens.shape[-1] != _WIDTH_THAT_NORMS_THE_CLASS_TOKEN_ONLY,
        ).eval()
        block.load_state_dict(tensors)
        block.attn.fused_attn = False  # so that its attention passes through a module
        block.attn.attn_drop.register_forward_hook(
            lambda _, __, attention: maps.append(attention[:, :, 0, 1:])
        )
        tokens = block(tokens)
    return maps
