"""Working in pieces, through other routes, or twice, changes nothing but time and memory."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xcit_dense.ops import (
    Convolution,
    TokenNorm,
    after_cheap,
    children_weights,
    choose_form,
    downscale_in_bands,
    linear,
    map_in_bands,
    map_in_chunks,
    map_to_tokens,
    prepared_linear,
    tokens_to_map,
    upsample,
)
from xcit_dense.ops.token_moments import token_moments


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("xcit_dense.ops.chunks._CPU_ELEMENTS", 600)


def assert_close(found, expected, tolerance=2e-6):
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("shape", [(3, 5, 24), (2, 900, 24), (1, 3000, 48)])
@pytest.mark.parametrize("with_grad", [False, True])
def test_linear_is_a_linear_layer_with_its_gradients(shape, with_grad):
    tokens, weight, bias = torch.randn(shape), torch.randn(40, shape[-1]), torch.randn(40)
    expected = F.linear(tokens.double(), weight.double(), bias.double())
    with torch.set_grad_enabled(with_grad):
        assert_close(linear(tokens, weight, bias), expected)
        assert_close(prepared_linear(weight, bias, tokens)(tokens), expected)
        activated = prepared_linear(weight, bias, tokens, activation="gelu")(tokens)
        assert_close(activated, F.gelu(expected))


def gradients(function, *inputs):
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    out = function(*leaves)
    generator = torch.Generator().manual_seed(5)
    grad = torch.randn(out.shape, generator=generator).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


@pytest.mark.parametrize("num_tokens", [7, 2000])
def test_after_a_norm_only_the_source_is_kept_and_gradients_are_the_same(num_tokens):
    inputs = [
        torch.randn(2, num_tokens, 16),
        torch.rand(16) + 0.5,
        torch.randn(16),
        torch.randn(24, 16),
        torch.randn(24),
        torch.rand(24),
    ]

    def plain(tokens, norm_weight, norm_bias, weight, bias, scale):
        normed = F.layer_norm(tokens, (16,), norm_weight, norm_bias, 1e-6)
        return scale * F.linear(normed, weight, bias)

    def recomputed(tokens, norm_weight, norm_bias, weight, bias, scale):
        norm = TokenNorm(norm_weight, norm_bias, 1e-6)
        return after_cheap(
            norm, linear, tokens, weight, bias, scale, cheap_parameters=norm.parameters
        )

    exact = gradients(plain, *(value.double() for value in inputs))
    for found, expected in zip(gradients(recomputed, *inputs), exact, strict=True):
        assert_close(found, expected, 1e-5)

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda kept: kept):
        recomputed(*(value.requires_grad_() for value in inputs))
    given = {value.data_ptr() for value in inputs}
    assert inputs[0].data_ptr() in {tensor.data_ptr() for tensor in kept}
    assert all(tensor.data_ptr() in given for tensor in kept)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ConvTranspose2d(8, 12, 2, stride=2),
    ],
)
def test_convolutions_after_an_activation_have_the_same_gradients(module):
    weights = [weight for weight in (module.weight, module.bias) if weight is not None]
    image = torch.randn(2, 8, 10, 14)

    def recomputed(image, *weights):
        return after_cheap(F.gelu, Convolution.of(module), image, *weights)

    def plain(image, *weights):
        return Convolution.of(module)(F.gelu(image), *weights)

    torch.testing.assert_close(plain(image, *weights), module(F.gelu(image)))
    found, exact = gradients(recomputed, image, *weights), gradients(plain, image, *weights)
    for value, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(value, expected)


def test_what_reads_frozen_weights_still_passes_gradients_on():
    weight, norm = torch.randn(24, 16), TokenNorm(torch.ones(16), torch.zeros(16), 1e-6)
    tokens = torch.randn(2, 30, 16, requires_grad=True)
    after_cheap(norm, linear, tokens, weight, cheap_parameters=norm.parameters).sum().backward()
    assert tokens.grad.any()
    assert weight.grad is None


@torch.no_grad()
def test_chunks(small_pieces):
    tokens = torch.randn(2, 333, 8)
    expected = tokens * 2 + 1
    sizes = []

    def double(rows):
        sizes.append(rows.shape[-2])
        return rows * 2 + 1

    assert torch.equal(map_in_chunks(double, tokens, 8), expected)
    assert max(sizes) == 600 // 8
    assert torch.equal(map_in_chunks(double, tokens, 8, out=tokens), expected)
    assert torch.equal(tokens, expected)  # in place


@torch.no_grad()
@pytest.mark.parametrize("height", [1, 4, 33])
def test_bands_see_their_neighbours(height, small_pieces):
    convolutions = [nn.Conv2d(4, 4, 3, padding=1, groups=4) for _ in range(2)]

    def twice(tokens):
        feature_map = tokens_to_map(tokens, tokens.shape[1] // 9, 9)
        for convolution in convolutions:
            feature_map = convolution(feature_map)
        return map_to_tokens(feature_map)

    tokens = torch.randn(2, height * 9, 4)
    found = map_in_bands(twice, tokens, 9, reach=2)
    torch.testing.assert_close(found, twice(tokens))


@torch.no_grad()
def test_bands_of_a_stem_see_their_neighbours(small_pieces):
    stem = nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(4)))
    image = torch.randn(2, 3, 16 * 21, 48)
    calls = []

    def embed(band):
        calls.append(band.shape)
        return stem(band)

    torch.testing.assert_close(downscale_in_bands(embed, image, 16, 48), stem(image))
    assert len(calls) > 4


@pytest.mark.parametrize("with_grad", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_upsampling_is_a_transposed_convolution(with_grad, memory_format, small_pieces):
    first, second = nn.ConvTranspose2d(6, 6, 2, stride=2), nn.ConvTranspose2d(6, 6, 2, stride=2)
    feature_map = torch.randn(2, 6, 7, 9).to(memory_format=memory_format)

    def children(tokens):
        return linear(tokens, *children_weights(first.weight, first.bias))

    def grandchildren(tokens):
        between = children(tokens).reshape(len(tokens), -1, 6)
        return linear(between, *children_weights(second.weight, second.bias))

    with torch.set_grad_enabled(with_grad):
        torch.testing.assert_close(upsample(feature_map, children, 1), first(feature_map))
        found = upsample(feature_map, grandchildren, 2)
        torch.testing.assert_close(found, second(first(feature_map)))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("with_grad", [False, True])
def test_moments_are_mean_and_covariance(with_grad, small_pieces):
    tokens = torch.randn(3, 700, 12) * 4 + 30
    norm = TokenNorm(torch.rand(12) + 0.5, torch.randn(12) + 5, 1e-6)
    with torch.set_grad_enabled(with_grad):
        mean, covariance = token_moments(tokens, norm)
    exact = TokenNorm(norm.weight.double(), norm.bias.double(), 1e-6)(tokens.double())
    assert_close(mean, exact.mean(1))
    for image, found in zip(exact, covariance, strict=True):
        assert_close(found, image.T.cov(correction=0), 1e-5)


@pytest.mark.parametrize("embed_dims", [128, 384, 768])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_many_tokens_take_the_gram_form_and_few_the_direct_one(embed_dims, with_gradient):
    forms = [choose_form(n, embed_dims, 8, with_gradient) for n in range(1, 4000, 7)]
    assert forms[0] == "direct"
    assert forms[-1] == "gram"
    changes = sum(before != after for before, after in pairwise(forms))
    assert changes == 1
