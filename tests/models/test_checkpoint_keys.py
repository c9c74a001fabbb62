"""Published key names become ours, and nothing is lost on the way."""

import pytest
import timm
import torch

from xcit_dense.models import (
    Pyramid,
    Trunk,
    convert_state_dict,
    resolve_arch,
    unwrap_checkpoint,
)

ARCH = resolve_arch("nano_12")


def our_keys(patch_size):
    trunk, pyramid = Trunk(ARCH, patch_size), Pyramid(ARCH.embed_dims, patch_size)
    return {f"trunk.{k}" for k in trunk.state_dict()} | {
        f"pyramid.{k}" for k in pyramid.state_dict()
    }


def release_state_dict(patch_size):
    """Timm's tensors under the names of the paper's release: one name differs."""
    model = timm.create_model(f"xcit_nano_12_p{patch_size}_224")
    return {k.replace("pos_embed.", "pos_embeder."): v for k, v in model.state_dict().items()}


def pyramid_of_release(patch_size):
    names = ["fpn1.0.weight", "fpn1.0.bias"]
    if patch_size == 16:
        names += [f"fpn1.1.{n}" for n in ("weight", "bias", "running_mean", "running_var")]
        names += ["fpn1.1.num_batches_tracked"]
        names += ["fpn1.3.weight", "fpn1.3.bias", "fpn2.0.weight", "fpn2.0.bias"]
    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("naming", ["release", "timm", "dense"])
def test_every_tensor_finds_its_place(patch_size, naming):
    published = release_state_dict(patch_size)
    wanted = {key for key in our_keys(patch_size) if key.startswith("trunk.")}
    if naming == "timm":
        published = timm.create_model(f"xcit_nano_12_p{patch_size}_224").state_dict()
    if naming == "dense":
        wanted = our_keys(patch_size)
        published = {
            **{f"backbone.{k}": v for k, v in published.items() if "cls" not in k},
            **{f"backbone.{k}": v for k, v in pyramid_of_release(patch_size).items()},
            "neck.lateral_convs.0.conv.weight": torch.zeros(1),
            "roi_head.bbox_head.fc_cls.weight": torch.zeros(1),
        }
    assert set(convert_state_dict(published)) == wanted


def test_tensors_are_passed_on_untouched():
    published = release_state_dict(16)
    converted = convert_state_dict(published)
    assert converted["trunk.blocks.3.interaction_layer_scale"] is published["blocks.3.gamma3"]
    assert converted["trunk.blocks.3.ffn_layer_scale"] is published["blocks.3.gamma2"]
    assert converted["trunk.blocks.3.ffn_norm.bias"] is published["blocks.3.norm2.bias"]


def test_our_own_names_stay():
    ours = {key: torch.zeros(1) for key in our_keys(16)}
    assert convert_state_dict(ours) == ours


def test_the_state_dict_is_found_under_its_usual_names():
    state_dict = {"a": torch.zeros(1)}
    assert unwrap_checkpoint(state_dict) is state_dict
    assert unwrap_checkpoint({"model": state_dict}) is state_dict
    assert unwrap_checkpoint({"state_dict": state_dict, "meta": {}}) is state_dict
