"""The trunk equals timm's XCiT, an independent port of the published code, block by block."""

import pytest
import timm
import torch
from torch import nn

from xcit_dense.network import Trunk, resolve_arch
from xcit_dense.weights import convert_state_dict


def randomize(model):
    """Give every weight, statistic and layer scale a value that makes a mistake visible."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    for name, parameter in model.named_parameters():
        if "gamma" in name or "temperature" in name or "norm" in name or "bn" in name:
            nn.init.uniform_(parameter, 0.3, 1)


def timm_taps(model, image, out_indices):
    """Run timm's stem and blocks and take the tokens after the tapped blocks as maps."""
    tokens, (height, width) = model.patch_embed(image)
    position = model.pos_embed(1, height, width)
    tokens = tokens + position.flatten(2).transpose(1, 2)
    taps = []
    for index, block in enumerate(model.blocks):
        tokens = block(tokens, height, width)
        if index in out_indices:
            taps.append(tokens.transpose(1, 2).reshape(-1, tokens.shape[-1], height, width))
    return taps


def paired_models(arch_name, patch_size):
    """Timm's model with random weights, and our trunk with the same."""
    theirs = timm.create_model(f"xcit_{arch_name}_p{patch_size}_224", num_classes=0).eval()
    randomize(theirs)
    ours = Trunk(resolve_arch(arch_name), patch_size).eval()
    state_dict = convert_state_dict(theirs.state_dict())
    ours.load_state_dict({k.removeprefix("trunk."): v for k, v in state_dict.items()})
    return theirs, ours


@pytest.mark.parametrize(
    ("arch_name", "patch_size", "sizes"),
    [
        ("nano_12", 16, [(224, 224), (16, 16), (320, 48)]),
        ("nano_12", 8, [(40, 120)]),
        ("tiny_24", 16, [(96, 64)]),
        ("small_12", 16, [(96, 160)]),
    ],
)
@torch.no_grad()
def test_block_outputs_are_equal(arch_name, patch_size, sizes):
    theirs, ours = paired_models(arch_name, patch_size)
    for height, width in sizes:
        image = torch.randn(2, 3, height, width)
        expected = timm_taps(theirs, image, ours.out_indices)
        for tap, want in zip(ours(image), expected, strict=True):
            assert (tap - want).abs().max() <= 1e-5 * want.abs().max()


def test_gradients_are_equal():
    theirs, ours = paired_models("nano_12", 16)
    image = torch.randn(1, 3, 64, 96)
    for model, taps in [(theirs, timm_taps(theirs, image, ours.out_indices)), (ours, ours(image))]:
        model.zero_grad()
        sum(tap.square().mean() for tap in taps).backward()
    expected = convert_state_dict(
        {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    )
    for name, parameter in ours.named_parameters():
        want = expected[f"trunk.{name}"]
        assert (parameter.grad - want).abs().max() <= 1e-4 * want.abs().max(), name
