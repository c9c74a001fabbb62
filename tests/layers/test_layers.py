"""Laws of the layers."""

import pytest
import torch
from torch import nn

from xcit_dense.layers import (
    Block,
    ConvolutionalPatchEmbedding,
    CrossCovarianceAttention,
    FourierPositionEncoding,
    LocalPatchInteraction,
    run_checkpointed,
)


def assert_every_parameter_has_a_gradient(module):
    without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without, without


def test_attention_permutes_with_its_tokens():
    attention = CrossCovarianceAttention(24, 4)
    tokens, order = torch.randn(2, 50, 24), torch.randperm(50)
    torch.testing.assert_close(attention(tokens[:, order]), attention(tokens)[:, order])


def test_attention_equals_a_float64_reference():
    attention = CrossCovarianceAttention(24, 4)
    nn.init.uniform_(attention.temperature, 0.5, 3)
    tokens = torch.randn(2, 50, 24)
    x = tokens.double()
    q, k, v = (x @ attention.qkv.weight.double().T + attention.qkv.bias.double()).chunk(3, dim=-1)
    heads = []
    for h in range(4):
        part = slice(6 * h, 6 * h + 6)
        qh, kh, vh = q[..., part], k[..., part], v[..., part]
        qh, kh = qh / qh.norm(dim=1, keepdim=True), kh / kh.norm(dim=1, keepdim=True)
        scores = torch.einsum("bni,bnj->bij", qh, kh) * attention.temperature[h].double()
        heads.append(torch.einsum("bij,bnj->bni", scores.softmax(-1), vh))
    expected = torch.cat(heads, -1) @ attention.projection.weight.double().T
    expected = expected + attention.projection.bias.double()
    torch.testing.assert_close(attention(tokens).double(), expected, rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_only():
    attention = CrossCovarianceAttention(24, 4, attention_dropout=0.5, projection_dropout=0.5)
    tokens = torch.randn(2, 50, 24)
    assert not torch.equal(attention(tokens), attention(tokens))
    attention.eval()
    assert torch.equal(attention(tokens), attention(tokens))


def test_local_patch_interaction_reaches_two_places_and_no_further():
    lpi = LocalPatchInteraction(4).eval()
    tokens = torch.randn(1, 81, 4, requires_grad=True)
    lpi(tokens, 9, 9)[0, 4 * 9 + 4].sum().backward()
    reached = tokens.grad[0].abs().sum(-1).reshape(9, 9) > 0
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[2:7, 2:7] = True
    assert torch.equal(reached, expected)


def test_local_patch_interaction_keeps_channels_apart():
    lpi = LocalPatchInteraction(4).eval()
    tokens = torch.randn(1, 25, 4, requires_grad=True)
    lpi(tokens, 5, 5)[..., 2].sum().backward()
    assert tokens.grad[..., 2].any()
    assert not tokens.grad[..., [0, 1, 3]].any()


@pytest.mark.parametrize(("patch_size", "convs"), [(8, 3), (16, 4)])
def test_patch_embedding_divides_by_the_patch_size(patch_size, convs):
    stem = ConvolutionalPatchEmbedding(patch_size, 5, 64)
    assert stem(torch.randn(2, 5, 4 * patch_size, 7 * patch_size)).shape == (2, 64, 4, 7)
    assert sum(isinstance(m, nn.Conv2d) for m in stem.modules()) == convs
    assert sum(isinstance(m, nn.GELU) for m in stem.modules()) == convs - 1


def test_position_encoding_has_any_size():
    encoding = FourierPositionEncoding(48)
    assert encoding(1, 1).shape == (1, 48, 1, 1)
    assert encoding(13, 40).shape == (1, 48, 13, 40)


@torch.no_grad()
def test_position_encoding_is_kept_for_a_size_until_its_weights_change():
    encoding = FourierPositionEncoding(48).eval()
    first = encoding(13, 40)
    kept = encoding._last[1]
    torch.testing.assert_close(encoding(13, 40), first)
    assert encoding._last[1] is kept
    assert encoding(40, 13).shape == (1, 48, 40, 13)
    encoding.projection.weight.mul_(2)
    encoding.projection.bias.mul_(2)
    torch.testing.assert_close(encoding(13, 40), 2 * first)
    encoding.load_state_dict(FourierPositionEncoding(48).state_dict())
    assert not torch.allclose(encoding(13, 40), 2 * first)


def test_position_encoding_in_training_keeps_nothing():
    encoding = FourierPositionEncoding(48)
    encoding(13, 40).sum().backward()
    assert encoding._last is None
    assert encoding.projection.weight.grad.any()


def test_layer_scale_of_zero_makes_the_block_the_identity():
    block = Block(16, 2, eta=0.0)
    tokens = torch.randn(2, 30, 16)
    assert torch.equal(block(tokens, 5, 6), tokens)


def test_every_parameter_of_a_block_receives_a_gradient():
    block = Block(16, 2)
    block(torch.randn(2, 30, 16), 5, 6).square().sum().backward()
    assert_every_parameter_has_a_gradient(block)


def test_drop_path_skips_branches_of_whole_samples():
    block = Block(16, 2, drop_path_rate=0.9)
    tokens = torch.randn(64, 30, 16)
    changed = (block(tokens, 5, 6) != tokens).flatten(1).any(1)
    assert 0 < changed.sum() < 40  # a sample is left alone with probability 0.9 ** 3
    assert (block.eval()(tokens, 5, 6) != tokens).flatten(1).any(1).all()


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
def test_checkpointed_equals_plain(drop_path_rate):
    results = []
    for run in (lambda block, *inputs: block(*inputs), run_checkpointed):
        torch.manual_seed(1)
        block = Block(16, 2, drop_path_rate=drop_path_rate)
        tokens = torch.randn(4, 30, 16, requires_grad=True)
        out = run(block, tokens, 5, 6)
        out.square().sum().backward()
        gradients = [tokens.grad, *(p.grad for p in block.parameters())]
        results.append([out, *gradients, *block.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
