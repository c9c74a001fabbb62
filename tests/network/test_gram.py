"""Moments of parts are those of the whole, and the layer made from them is attention."""

import functools

import pytest
import torch

from xcit_dense.network import CrossCovarianceAttention, Moments, Projections, mixing

FAR = pytest.mark.parametrize("mean", [0, 1000])


def assert_exact(moments, tokens):
    """Near to float64; where tokens of spread 1 are far from 0, as near as means can be told.

    Tokens of half precision lose some digits when their mean is taken off, not those of the sum.
    """
    exact = tokens.double()
    mean = exact.mean(-2, keepdim=True)
    covariance = (exact - mean).mT @ (exact - mean) / exact.shape[-2]
    far = mean.abs().max()
    assert moments.count == exact.shape[-2]
    assert moments.mean.dtype == moments.covariance.dtype == torch.float32
    assert (moments.mean - mean[..., 0, :]).abs().max() <= 1e-6 * (1 + far)
    error = (moments.covariance - covariance).abs().max()
    half = torch.finfo(tokens.dtype).eps if tokens.dtype != torch.float32 else 0
    rounding = max(torch.finfo(torch.float32).eps * (40 + far), 0.1 * half)
    assert error <= rounding * covariance.abs().max()


@FAR
@pytest.mark.parametrize("shape", [(5000, 24), (2, 3000, 24), (2, 3, 7, 4), (1, 24)])
@pytest.mark.parametrize("with_grad", [False, True])
def test_moments_are_mean_and_covariance(shape, mean, with_grad):
    tokens = torch.randn(shape) + mean
    with torch.set_grad_enabled(with_grad):
        moments = Moments.of(tokens)
    if shape[-2] == 1:
        assert torch.equal(moments.mean, tokens[..., 0, :])
        assert not moments.covariance.any()
    else:
        assert_exact(moments, tokens)


@FAR
@pytest.mark.parametrize("sizes", [[1] * 50, [1, 900, 3], [1000, 1], [20, 5, 400, 1, 77, 1000]])
@torch.no_grad()
def test_moments_of_parts_merge_to_those_of_the_whole_in_any_order(sizes, mean):
    tokens = torch.randn(2, sum(sizes), 24) + mean
    parts = tokens.split(sizes, dim=1)
    assert_exact(functools.reduce(Moments.accumulate, parts[1:], Moments.of(parts[0])), tokens)
    merged = [Moments.of(part) for part in parts]
    while len(merged) > 1:  # any two of them
        first, second = (merged.pop(torch.randint(len(merged), ())) for _ in range(2))
        merged.append(first.merge(second))
    assert_exact(merged[0], tokens)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_moments_of_half_precision_tokens_are_single(dtype):
    tokens = (torch.randn(2, 4000, 24) * 3 + 200).to(dtype)
    assert_exact(Moments.of(tokens), tokens)


def attention_with_projections():
    attention = CrossCovarianceAttention(24, 3, form="direct").double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    layers = attention.qkv, attention.projection
    return attention, Projections(*(t for layer in layers for t in (layer.weight, layer.bias)))


@pytest.mark.parametrize("shape", [(2, 37, 24), (37, 24)])
def test_mixing_is_the_linear_layer_that_attention_is(shape):
    attention, projections = attention_with_projections()
    tokens = torch.randn(shape, dtype=torch.float64)
    weight, bias = mixing(Moments.of(tokens), projections, attention.temperature)
    expected = attention(tokens.reshape(-1, *shape[-2:])).view(shape)
    torch.testing.assert_close(tokens @ weight.mT + bias[..., None, :], expected)


def test_tokens_may_attend_to_others_than_themselves():
    """Some tokens of an image by the moments of all are those of the whole image's result."""
    attention, projections = attention_with_projections()
    tokens = torch.randn(37, 24, dtype=torch.float64)
    moments = Moments.of(tokens[:5]).accumulate(tokens[5:])
    weight, bias = mixing(moments, projections, attention.temperature)
    torch.testing.assert_close(tokens[9:12] @ weight.T + bias, attention(tokens[None])[0, 9:12])


def test_mixing_and_merging_are_differentiable_twice():
    weights = [torch.randn(shape).double() for shape in [(12, 4), (12,), (4, 4), (4,), (2, 1, 1)]]
    tokens = [torch.randn(2, count, 4).double() for count in (3, 5)]

    def layer(first, second, *weights):
        moments = Moments.of(first).accumulate(second)
        return mixing(moments, Projections(*weights[:4]), weights[4])

    inputs = [tensor.requires_grad_() for tensor in (*tokens, *weights)]
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)
