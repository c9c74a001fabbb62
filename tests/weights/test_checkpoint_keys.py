"""Published key names become ours, and nothing is lost on the way."""

import functools
import re

import pytest
import timm
import torch

from xcit_dense.errors import UserError
from xcit_dense.network import Pyramid, Trunk, resolve_arch
from xcit_dense.weights import NAMINGS, convert_state_dict, rename_state_dict

ARCH = resolve_arch("nano_12")


def our_keys(patch_size, part):
    with torch.device("meta"):
        trunk, pyramid = Trunk(ARCH, patch_size), Pyramid(ARCH.embed_dims, patch_size)
    module = {"trunk": trunk, "pyramid": pyramid}[part]
    return {f"{part}.{key}" for key in module.state_dict()}


@functools.cache
def timm_state_dict(patch_size=16):
    return dict(timm.create_model(f"xcit_nano_12_p{patch_size}_224").state_dict())


def official_state_dict(patch_size=16):
    """The release's names; it has query, key and value of class attention in one tensor."""
    official = {}
    timms = timm_state_dict(patch_size)
    for key, tensor in timms.items():
        if re.search(r"cls_attn_blocks\.\d\.attn\.q\.weight", key):
            for kind in ("weight", "bias"):
                parts = [timms[key.replace("q.weight", f"{part}.{kind}")] for part in "qkv"]
                official[key.replace("q.weight", f"qkv.{kind}")] = torch.cat(parts)
        elif not re.search(r"cls_attn_blocks\.\d\.attn\.[qkv]\.", key):
            official[key.replace("pos_embed.", "pos_embeder.")] = tensor
    return official


def dense_state_dict(patch_size=16):
    """A whole detector of the release."""
    pyramid = ["fpn1.0.weight", "fpn1.0.bias"]
    if patch_size == 16:
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        pyramid += [f"fpn1.1.{name}" for name in norm]
        pyramid += ["fpn1.3.weight", "fpn1.3.bias", "fpn2.0.weight", "fpn2.0.bias"]
    tensors = official_state_dict(patch_size) | {name: torch.zeros(1) for name in pyramid}
    heads = {"neck.lateral_convs.0.conv.weight": torch.zeros(1)}
    return {f"backbone.{key}": tensor for key, tensor in tensors.items()} | heads


def wrapped(state_dict):
    """As a model that was trained in several processes writes itself."""
    return {f"module.{key}": tensor for key, tensor in state_dict.items()}


SOURCES = {
    "timm": timm_state_dict,
    "official": official_state_dict,
    "module_dense": lambda *size: wrapped(dense_state_dict(*size)),
}


def assert_same(first, second):
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("source", SOURCES)
def test_every_tensor_finds_its_place(source, patch_size):
    wanted = our_keys(patch_size, "trunk")
    if "dense" in source:
        wanted |= our_keys(patch_size, "pyramid")
    assert convert_state_dict(SOURCES[source](patch_size)).keys() == wanted


def test_tensors_are_passed_on_untouched():
    published = official_state_dict()
    converted = convert_state_dict(published)
    assert converted["trunk.blocks.3.interaction_layer_scale"] is published["blocks.3.gamma3"]
    assert converted["trunk.blocks.3.ffn_layer_scale"] is published["blocks.3.gamma2"]
    assert converted["trunk.blocks.3.ffn_norm.bias"] is published["blocks.3.norm2.bias"]
    assert convert_state_dict(converted) == converted


@pytest.mark.parametrize("other", NAMINGS)
@pytest.mark.parametrize("source", SOURCES)
def test_renaming_there_and_back_changes_nothing(source, other):
    original = SOURCES[source]()
    back = "timm" if source == "timm" else "official"
    assert_same(original, rename_state_dict(rename_state_dict(original, other), back))


def test_errors():
    with pytest.raises(UserError, match=r"'mmcls'.*xcit_dense, timm, official"):
        rename_state_dict({}, "mmcls")
    names = [f"{name}.token_projection.bias" for name in ("pos_embed", "pos_embeder")]
    with pytest.raises(UserError, match=r"pos_embed.*trunk\.position_encoding\.projection"):
        rename_state_dict(dict.fromkeys(names, torch.zeros(1)), "xcit_dense")
