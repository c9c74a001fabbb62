"""Class attention of the published classification models: what the paper's attention maps show.

In these models two more blocks follow the trunk, in which a class token attends to the places
(XCiT paper, section 3.3, after CaiT, arXiv 2103.17239). A backbone for dense prediction has no such
blocks; they are computed here from the tensors of a classification checkpoint.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.network.block import LAYER_NORM_EPS
from xcit_dense.weights import split_class_attention

_BLOCK = re.compile(r"cls_attn_blocks\.(\d+)\.")
# The release's nano models norm only the class token before the feed-forward network, the others
# all tokens; the tensors do not tell (source: its model definitions).
_WIDTH_THAT_NORMS_THE_CLASS_TOKEN_ONLY = 128


def has_class_attention(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether there are class attention blocks in a published state dict."""
    return "cls_token" in state_dict and any(_BLOCK.match(key) for key in state_dict)


@torch.no_grad()
def class_attention(
    state_dict: Mapping[str, Tensor], tokens: Tensor, num_heads: int
) -> tuple[list[Tensor], Tensor]:
    """Let the class token attend to the places, as a classification model does.

    Args:
        state_dict: tensors of a classification model, by the names of the release or of timm.
        tokens: (B, N, C), what the last block of the trunk gives.
        num_heads: heads of the attention.

    Returns:
        The attention of each block, (B, heads, N), how much of each place the class token takes
        in; with what it takes in of itself it sums to one. And the class token after the last
        norm, (B, C).

    Raises:
        ValueError: the state dict has no class attention.
    """
    if not has_class_attention(state_dict):
        raise ValueError(
            "the weights have no class attention: wanted are published classification weights, "
            "with cls_token and cls_attn_blocks.*"
        )
    state_dict = split_class_attention(state_dict)
    numbers = sorted({int(match[1]) for key in state_dict if (match := _BLOCK.match(key))})
    class_token = state_dict["cls_token"].to(tokens).expand(len(tokens), -1, -1)
    tokens = torch.cat([class_token, tokens], dim=1)
    maps = []
    for number in numbers:
        prefix = f"cls_attn_blocks.{number}."
        weights = {
            key.removeprefix(prefix): tensor.to(tokens)
            for key, tensor in state_dict.items()
            if key.startswith(prefix)
        }
        attention, tokens = _class_attention_block(weights, tokens, num_heads)
        maps.append(attention[..., 1:])
    width = tokens.shape[-1]
    last_norm = state_dict["norm.weight"].to(tokens), state_dict["norm.bias"].to(tokens)
    return maps, F.layer_norm(tokens[:, 0], (width,), *last_norm, LAYER_NORM_EPS)


def _class_attention_block(
    weights: Mapping[str, Tensor], tokens: Tensor, num_heads: int
) -> tuple[Tensor, Tensor]:
    """(B, 1 + N, C) -> the attention of the class token, (B, heads, 1 + N), and new tokens."""

    def norm(tokens: Tensor, name: str) -> Tensor:
        shape = tokens.shape[-1:]
        return F.layer_norm(
            tokens, shape, weights[f"{name}.weight"], weights[f"{name}.bias"], LAYER_NORM_EPS
        )

    def project(tokens: Tensor, name: str) -> Tensor:
        return F.linear(tokens, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def heads(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (B, heads, n, d)

    normed = norm(tokens, "norm1")
    query = heads(project(normed[:, :1], "attn.q"))
    key, value = heads(project(normed, "attn.k")), heads(project(normed, "attn.v"))
    attention = (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)  # (B, heads, 1, 1 + N)
    class_token = project((attention @ value).transpose(1, 2).flatten(2), "attn.proj")
    attended = torch.cat([class_token, normed[:, 1:]], dim=1)
    tokens = tokens + weights["gamma1"] * attended

    if tokens.shape[-1] == _WIDTH_THAT_NORMS_THE_CLASS_TOKEN_ONLY:
        tokens = torch.cat([norm(tokens[:, :1], "norm2"), tokens[:, 1:]], dim=1)
    else:
        tokens = norm(tokens, "norm2")
    hidden = F.gelu(project(tokens[:, :1], "mlp.fc1"))
    class_token = weights["gamma2"] * project(hidden, "mlp.fc2")
    tokens = tokens + torch.cat([class_token, tokens[:, 1:]], dim=1)
    return attention[:, :, 0], tokens
