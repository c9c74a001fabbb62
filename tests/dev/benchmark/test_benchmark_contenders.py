"""Contenders are found by name, and the published one computes what this package computes."""

import pytest
import torch
from dev.benchmark import CONTENDERS, INFERENCE, parse_contenders

from xcit_dense import convert_state_dict


def labels(*texts, **options):
    return [contender.label for contender in parse_contenders(texts, **options)]


def test_names_with_dtype_and_compilation():
    (contender,) = parse_contenders(["xcit_gram+compile:bf16"])
    assert (contender.name, contender.compiled, contender.dtype) == ("xcit_gram", True, "bf16")
    assert contender.label == "xcit_gram+compile:bf16"
    assert labels("xcit_auto", "resnet50:fp16", "xcit_auto") == ["xcit_auto", "resnet50:fp16"]
    assert labels("all") == list(CONTENDERS)


def test_compiling_adds_each_xcit_once_more():
    assert labels("xcit_auto:bf16", "timm_xcit", with_compiled=True) == [
        "xcit_auto:bf16",
        "xcit_auto+compile:bf16",
        "timm_xcit",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("xcit_automatic", "'xcit_automatic' is unknown; use 'all' or some of xcit_auto, "),
        ("xcit_auto:bf17", "dtype 'bf17' is unknown; use one of fp32, bf16, fp16"),
        ("xcit_auto:", "dtype '' is unknown"),
    ],
)
def test_unknown_names_say_what_is_known(text, message):
    with pytest.raises(ValueError, match=message):
        parse_contenders([text])


def test_optimized_is_for_inference():
    assert CONTENDERS["xcit_optimized"].modes == (INFERENCE,)


@pytest.mark.parametrize("name", ["timm_xcit", "timm_xcit_plain"])
@pytest.mark.parametrize("patch_size", [8, 16])
def test_the_published_one_is_the_same_function(name, patch_size):
    published = CONTENDERS[name].build("nano_12", patch_size)
    ours = CONTENDERS["xcit_direct"].build("nano_12", patch_size)
    state_dict = convert_state_dict(published.trunk.state_dict())
    state_dict |= {k: v for k, v in published.state_dict().items() if k.startswith("pyramid.")}
    ours.load_state_dict(state_dict)
    published.eval()
    ours.eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for level, want in zip(ours(image), published(image), strict=True):
            torch.testing.assert_close(level, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


def test_every_weight_of_the_published_one_is_trained():
    published = CONTENDERS["timm_xcit"].build("nano_12", 16).train()
    sum(level.square().mean() for level in published(torch.randn(2, 3, 48, 64))).backward()
    assert [n for n, p in published.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["resnet50", "swin_tiny", "convnext_tiny", "pvtv2_b2"])
def test_peers_give_the_four_strides(name):
    model = CONTENDERS[name].build("nano_12", 16)
    model.eval()
    with torch.no_grad():
        levels = model(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape[-2:]) for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]
