"""Class attention from published tensors equals timm's."""

import pytest
import timm
import torch

from xcit_dense.look.class_attention import class_attention, has_class_attention
from xcit_dense.weights.checkpoint_keys import join_class_attention

HEADS = 4


@pytest.fixture(scope="module", params=["xcit_nano_12_p16_224", "xcit_tiny_12_p16_224"])
def model(request):
    torch.manual_seed(0)
    model = timm.create_model(request.param, num_classes=7).eval()
    for block in model.cls_attn_blocks:
        block.attn.fused_attn = False  # so that its attention passes through a module
        torch.nn.init.normal_(block.attn.q.weight, std=0.2)
        torch.nn.init.normal_(block.norm2.bias)
    return model


@pytest.fixture(scope="module")
def of_timm(model):
    """Tokens that enter class attention, attention of its blocks, logits of the classes."""
    seen = {"attention": []}
    handles = [
        model.blocks[-1].register_forward_hook(lambda _, __, out: seen.update(tokens=out)),
        *(
            block.attn.attn_drop.register_forward_hook(
                lambda _, __, out: seen["attention"].append(out)
            )
            for block in model.cls_attn_blocks
        ),
    ]
    with torch.no_grad():
        seen["logits"] = model(torch.randn(2, 3, 64, 96))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("naming", ["timm", "official"])
def test_equal_to_timm(model, of_timm, naming):
    state_dict = model.state_dict()
    if naming == "official":
        state_dict = join_class_attention(state_dict)
        assert "cls_attn_blocks.0.attn.qkv.weight" in state_dict
    maps, class_token = class_attention(state_dict, of_timm["tokens"], HEADS)
    assert len(maps) == len(of_timm["attention"]) == 2
    for ours, theirs in zip(maps, of_timm["attention"], strict=True):
        assert torch.allclose(ours, theirs.squeeze(2)[..., 1:], atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(model.head(class_token), of_timm["logits"], atol=1e-5)


def test_weights_without_class_attention_are_an_error():
    assert not has_class_attention({"blocks.0.gamma1": torch.ones(4)})
    with pytest.raises(ValueError, match="the weights have no class attention"):
        class_attention({}, torch.zeros(1, 4, 8), HEADS)
