"""What a block keeps for backward, in units of one tensor of all tokens."""

import pytest
import torch
from torch import nn

from xcit_dense.layers import Block, run_checkpointed

BATCH, SIDE, CHANNELS, HEADS = 2, 32, 384, 8


def tensors_kept(run, block):
    """Bytes of the storages that autograd holds, without the parameters, over those of tokens."""
    tokens = torch.randn(BATCH, SIDE * SIDE, CHANNELS, requires_grad=True)
    own = {parameter.data_ptr() for parameter in [*block.parameters(), *block.buffers()]}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run(block, tokens, SIDE, SIDE)
    assert out.requires_grad
    return sum(size for _, size in kept.values()) / (tokens.numel() * 4)


@pytest.mark.parametrize("form", ["gram", "direct"])
def test_a_block_keeps_ten_tensors_at_most(form):
    block = Block(CHANNELS, HEADS, attention=form)
    assert tensors_kept(lambda block, *inputs: block(*inputs), block) < 10.01


def test_a_checkpointed_block_keeps_its_input():
    assert tensors_kept(run_checkpointed, Block(CHANNELS, HEADS)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("norm_layer", [nn.BatchNorm2d, lambda width: nn.GroupNorm(8, width)])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_both_forms_are_the_same(norm_layer, training):
    found = []
    for form in ("direct", "gram"):
        torch.manual_seed(0)
        block = Block(CHANNELS, HEADS, norm_layer=norm_layer, attention=form).train(training)
        for name, parameter in block.named_parameters():
            if "scale" in name or "temperature" in name or "norm" in name:
                nn.init.uniform_(parameter, 0.3, 1)
        tokens = torch.randn(BATCH, SIDE * SIDE, CHANNELS, requires_grad=True)
        block(tokens, SIDE, SIDE).square().sum().backward()
        found.append({"tokens": tokens.grad, **{n: p.grad for n, p in block.named_parameters()}})
    direct, gram = found
    for name, expected in direct.items():
        assert (gram[name] - expected).abs().max() <= 1e-4 * expected.abs().max(), name


def test_statistics_count_a_batch_once():
    block = Block(CHANNELS, HEADS).train()
    block(torch.randn(BATCH, SIDE * SIDE, CHANNELS), SIDE, SIDE).sum().backward()
    assert block.interaction.norm.num_batches_tracked == 1


def test_drop_path_without_gradients_drops_whole_samples():
    block = Block(CHANNELS, HEADS, drop_path_rate=0.9).train()
    tokens = torch.randn(64, 4, CHANNELS)
    with torch.no_grad():
        changed = (block(tokens, 2, 2) != tokens).flatten(1)
    assert 0 < changed.any(1).sum() < 40
