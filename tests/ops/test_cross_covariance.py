"""Laws of cross-covariance attention."""

import math

import pytest
import torch

from xcit_dense.ops import cross_covariance_attention


def reference(query, key, value, temperature):
    """The paper's formula, entry by entry, in float64."""
    batch, heads, tokens, width = query.shape
    q, k, v = (t.double() for t in (query, key, value))
    out = torch.zeros(batch, heads, tokens, width, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            scores = torch.empty(width, width, dtype=torch.float64)
            for i in range(width):
                for j in range(width):
                    qi, kj = q[b, h, :, i], k[b, h, :, j]
                    cosine = (qi @ kj) / math.sqrt((qi @ qi) * (kj @ kj))
                    scores[i, j] = temperature.double()[h, 0, 0] * cosine
            weights = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
            for i in range(width):
                out[b, h, :, i] = v[b, h] @ weights[i]
    return out


def random_inputs(batch=2, heads=3, tokens=37, width=8, dtype=torch.float32):
    query, key, value = torch.randn(3, batch, heads, tokens, width, dtype=dtype)
    return query, key, value, torch.rand(heads, 1, 1, dtype=dtype) * 4 + 0.5


@pytest.mark.parametrize("tokens", [1, 5, 37, 400])
def test_equals_the_float64_reference(tokens):
    inputs = random_inputs(tokens=tokens)
    torch.testing.assert_close(
        cross_covariance_attention(*inputs).double(), reference(*inputs), rtol=1e-5, atol=1e-5
    )


def test_gradients_equal_finite_differences():
    inputs = [t.requires_grad_() for t in random_inputs(1, 2, 5, 3, torch.float64)]
    assert torch.autograd.gradcheck(cross_covariance_attention, inputs)


def test_permuting_tokens_permutes_the_output():
    query, key, value, temperature = random_inputs()
    order = torch.randperm(query.shape[2])
    expected = cross_covariance_attention(query, key, value, temperature)[:, :, order]
    permuted = (t[:, :, order] for t in (query, key, value))
    torch.testing.assert_close(cross_covariance_attention(*permuted, temperature), expected)


def test_scaling_queries_and_keys_changes_nothing():
    query, key, value, temperature = random_inputs()
    expected = cross_covariance_attention(query, key, value, temperature)
    scaled = cross_covariance_attention(1000 * query, 0.001 * key, value, temperature)
    torch.testing.assert_close(scaled, expected)


def test_zero_tokens_do_not_make_nan():
    query, key, value, temperature = random_inputs()
    out = cross_covariance_attention(query * 0, key * 0, value, temperature)
    torch.testing.assert_close(out, value.mean(-1, keepdim=True).expand_as(value))


def test_dropout_keeps_the_expectation_and_drops():
    inputs = random_inputs(dtype=torch.float64)
    plain = cross_covariance_attention(*inputs)
    draws = torch.stack([cross_covariance_attention(*inputs, dropout_p=0.5) for _ in range(2000)])
    assert (draws[0] - plain).abs().max() > 0.1
    torch.testing.assert_close(draws.mean(0), plain, rtol=0, atol=0.2)
