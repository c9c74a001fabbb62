"""Published key names become ours, and nothing is lost on the way."""

import functools
import re

import pytest
import timm
import torch

from xcit_dense.network import Pyramid, Trunk, resolve_arch
from xcit_dense.weights import NAMINGS, convert_state_dict, rename_state_dict, unwrap_checkpoint

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


@functools.cache
def timm_state_dict():
    return dict(timm.create_model("xcit_nano_12_p16_224").state_dict())


def official_state_dict():
    """The release's names; it has query, key and value of class attention in one tensor."""
    official = {}
    timms = timm_state_dict()
    for key, tensor in timms.items():
        if re.search(r"cls_attn_blocks\.\d\.attn\.q\.weight", key):
            for kind in ("weight", "bias"):
                parts = [key.replace("q.weight", f"{part}.{kind}") for part in "qkv"]
                official[key.replace("q.weight", f"qkv.{kind}")] = torch.cat(
                    [timms[part] for part in parts]
                )
        elif not re.search(r"cls_attn_blocks\.\d\.attn\.[qkv]\.", key):
            official[key.replace("pos_embed.", "pos_embeder.")] = tensor
    return official


def dense_state_dict():
    return {
        **{f"backbone.{key}": tensor for key, tensor in official_state_dict().items()},
        **{f"backbone.{key}": tensor for key, tensor in pyramid_of_release(16).items()},
        "neck.lateral_convs.0.conv.weight": torch.zeros(1),
    }


SOURCES = {
    "timm": timm_state_dict,
    "official": official_state_dict,
    "dense": dense_state_dict,
    "module": lambda: {f"module.{key}": tensor for key, tensor in official_state_dict().items()},
    "module_dense": lambda: {f"module.{k}": tensor for k, tensor in dense_state_dict().items()},
}


def assert_same(first, second):
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("other", NAMINGS)
@pytest.mark.parametrize("source", SOURCES)
def test_renaming_there_and_back_changes_nothing(source, other):
    original = SOURCES[source]()
    back = "timm" if source == "timm" else "official"
    assert_same(original, rename_state_dict(rename_state_dict(original, other), back))


@pytest.mark.parametrize("between", ["timm", "official"])
def test_our_names_come_back(between):
    ours = rename_state_dict(SOURCES["dense"](), "xcit_dense")
    ours = rename_state_dict(rename_state_dict(ours, between), "xcit_dense")
    again = rename_state_dict(rename_state_dict(ours, between), "xcit_dense")
    assert_same(ours, again)


def test_a_renamed_file_fits_timms_model():
    original = timm.create_model("xcit_nano_12_p16_224").eval()
    ours = rename_state_dict(original.state_dict(), "xcit_dense")
    assert our_keys(16) - {k for k in our_keys(16) if "pyramid" in k} <= set(ours)
    for source in (ours, rename_state_dict(ours, "official")):
        copy = timm.create_model("xcit_nano_12_p16_224").eval()
        copy.load_state_dict(rename_state_dict(source, "timm"))
        image = torch.randn(1, 3, 64, 64)
        assert torch.equal(copy(image), original(image))


def test_official_names_are_those_of_the_release():
    assert_same(rename_state_dict(timm_state_dict(), "official"), official_state_dict())


def test_an_unknown_naming_is_an_error():
    with pytest.raises(ValueError, match="naming='mmcls': must be one of xcit_dense, timm, offici"):
        rename_state_dict({}, "mmcls")


def test_two_tensors_of_one_name_are_an_error():
    both = {
        f"{name}.token_projection.bias": torch.zeros(1) for name in ("pos_embed", "pos_embeder")
    }
    with pytest.raises(
        ValueError, match=r"would both be called trunk.position_encoding.projection"
    ):
        rename_state_dict(both, "xcit_dense")


def test_the_prefix_of_wrapped_models_is_taken_off():
    published = release_state_dict(16)
    wrapped = {f"module.{key}": tensor for key, tensor in published.items()}
    assert convert_state_dict(wrapped) == convert_state_dict(published)
