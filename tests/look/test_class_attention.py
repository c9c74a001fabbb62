"""Class attention from published tensors equals that of timm's whole model."""

import pytest
import timm
import torch

from xcit_dense.look.class_attention import class_attention, has_class_attention

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
@pytest.mark.parametrize("arch", ["nano_12", "tiny_12"])
@torch.no_grad()
def test_equal_to_timm(arch, naming):
    model = timm.create_model(f"xcit_{arch}_p16_224", num_classes=7).eval()
    expected = []
    for block in model.cls_attn_blocks:
        block.attn.fused_attn = False
        torch.nn.init.normal_(block.attn.q.weight, std=0.2)
        torch.nn.init.normal_(block.norm2.bias)
        block.attn.attn_drop.register_forward_hook(lambda _, __, out: expected.append(out))
    state_dict = rename_state_dict(model.state_dict(), naming)
    assert has_class_attention(state_dict)
    ours = convert_state_dict(state_dict)
    assert not has_class_attention(ours)

    trunk = Trunk(resolve_arch(arch), patch_size=16).eval()
    trunk.load_state_dict({key.removeprefix("trunk."): ours[key] for key in ours})
    image = torch.randn(1, 3, 64, 96)
    model(image)
    maps = class_attention(trunk, image, state_dict)
    assert len(maps) == len(expected) == 2
    for places, attention in zip(maps, expected, strict=True):
        assert places.shape == (4, 4, 6)
        torch.testing.assert_close(places.flatten(1), attention[0, :, 0, 1:], rtol=1e-4, atol=1e-6)
