"""Class attention from published tensors equals that of timm's whole model."""

import pytest
import timm
import torch

from xcit_dense.look.class_attention import class_attention, has_class_attention
from xcit_dense.network import Trunk, resolve_arch
from xcit_dense.weights import convert_state_dict, rename_state_dict


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
