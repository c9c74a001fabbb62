"""Class attention from published tensors equals that of timm's whole model."""

import pytest
import timm
import torch

from xcit_dense.look.class_attention import class_attention, has_class_attention
from xcit_dense.weights import rename_state_dict

HEADS = 4


@pytest.fixture(scope="module", params=["xcit_nano_12_p16_224", "xcit_tiny_12_p16_224"])
def model(request):
    torch.manual_seed(0)
    model = timm.create_model(request.param, num_classes=7).eval()
    for block in model.cls_attn_blocks:
        block.attn.fused_attn = False
        torch.nn.init.normal_(block.attn.q.weight, std=0.2)
        torch.nn.init.normal_(block.norm2.bias)
    return model


@pytest.mark.parametrize("naming", ["timm", "official"])
@torch.no_grad()
def test_equal_to_timm(model, naming):
    tokens, attention = [], []
    hooks = [model.blocks[-1].register_forward_hook(lambda _, __, out: tokens.append(out))]
    for block in model.cls_attn_blocks:
        dropout = block.attn.attn_drop
        hooks.append(dropout.register_forward_hook(lambda _, __, out: attention.append(out)))
    model(torch.randn(2, 3, 64, 96))
    for hook in hooks:
        hook.remove()
    state_dict = rename_state_dict(model.state_dict(), naming)
    maps = class_attention(state_dict, tokens[0], HEADS)
    assert len(maps) == len(attention) == 2
    for ours, theirs in zip(maps, attention, strict=True):
        assert ours.shape == (2, HEADS, 4 * 6)
        torch.testing.assert_close(ours, theirs[:, :, 0, 1:])
    assert has_class_attention(state_dict)
    assert not has_class_attention({"blocks.0.gamma1": torch.ones(4)})
