"""Half precision with the layer scale of deep models: outputs are scaled, not weights."""

import copy

import pytest
import torch

from xcit_dense.network import Block

LOSS_SCALE = 2.0**16


@pytest.mark.parametrize("form", ["direct", "gram"])
@pytest.mark.parametrize("keep_less", [True, False])
def test_gradients_survive_a_small_layer_scale(form, keep_less):
    """A weight times 1e-5 has few digits left in float16; its output does not."""
    block = Block(64, 4, eta=1e-5, attention=form, keep_less=keep_less).eval()
    tokens = torch.randn(2, 64, 64).half().float()
    grad = torch.randn(2, 64, 64)
    exact = copy.deepcopy(block).double()
    (exact(tokens.double(), 8, 8) * grad.double()).sum().backward()
    with torch.autocast("cpu", torch.float16):
        out = block(tokens, 8, 8)
    ((out * grad).sum() * LOSS_SCALE).backward()
    for (name, parameter), want in zip(block.named_parameters(), exact.parameters(), strict=True):
        error = (parameter.grad / LOSS_SCALE - want.grad).abs().max() / want.grad.abs().max()
        assert error < 1e-2, (name, error.item())
