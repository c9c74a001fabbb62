"""Laws of cross-covariance attention, in both of its forms."""

import contextlib
import math

import pytest
import torch

from xcit_dense.ops import TokenNorm, cross_covariance_attention

BOTH_FORMS = pytest.mark.parametrize("form", ["direct", "gram"])


def random_weights(channels, heads, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, std=1.0):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * std

    return {
        "qkv_weight": normal(3 * channels, channels, std=channels**-0.5),
        "qkv_bias": normal(3 * channels, std=0.1),
        "projection_weight": normal(channels, channels, std=channels**-0.5),
        "projection_bias": normal(channels, std=0.1),
        "temperature": torch.rand(heads, 1, 1, generator=generator, dtype=torch.float64) * 4 + 0.5,
    }


def reference(tokens, qkv_weight, qkv_bias, projection_weight, projection_bias, temperature):
    """The paper's formula, head by head and entry by entry, in float64."""
    channels, heads = tokens.shape[2], len(temperature)
    width = channels // heads
    out = torch.zeros_like(tokens)
    for image, x in enumerate(tokens):
        query, key, value = (x @ qkv_weight.T + qkv_bias).split(channels, dim=1)
        mixed = torch.zeros_like(x)
        for head in range(heads):
            first = head * width
            for i in range(first, first + width):
                scores = torch.stack(
                    [
                        temperature[head, 0, 0]
                        * (query[:, i] @ key[:, j])
                        / math.sqrt((query[:, i] @ query[:, i]) * (key[:, j] @ key[:, j]))
                        for j in range(first, first + width)
                    ]
                )
                weights = scores.exp() / scores.exp().sum()
                mixed[:, i] = value[:, first : first + width] @ weights
        out[image] = mixed @ projection_weight.T + projection_bias
    return out


def run(tokens, weights, form, dtype, autocast=None):
    """The output and all gradients, computed in a type from the same numbers."""
    leaves = {
        name: value.to(dtype).requires_grad_()
        for name, value in {"tokens": tokens, **weights}.items()
    }
    context = torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext()
    with context:
        out = cross_covariance_attention(**leaves, form=form)
    generator = torch.Generator().manual_seed(3)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    grads = torch.autograd.grad(out, list(leaves.values()), grad)
    return dict(zip(["out", *leaves], [out.detach(), *grads], strict=True))


def errors(found, exact):
    """The largest error of each tensor, relative to its largest entry."""
    return {
        name: ((found[name].double() - value).abs().max() / value.abs().max()).item()
        for name, value in exact.items()
        if value.abs().max() > 0
    }


@BOTH_FORMS
@pytest.mark.parametrize("num_tokens", [1, 5, 37, 400])
def test_equals_the_float64_reference(form, num_tokens):
    weights = random_weights(24, 3)
    tokens = torch.randn(2, num_tokens, 24, dtype=torch.float64)
    expected = reference(tokens, **weights)
    exact = cross_covariance_attention(tokens, **weights, form=form)
    torch.testing.assert_close(exact, expected, rtol=1e-10, atol=1e-10)
    single = {name: weight.float() for name, weight in weights.items()}
    found = cross_covariance_attention(tokens.float(), **single, form=form).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@BOTH_FORMS
def test_gradients_equal_finite_differences(form):
    leaves = {"tokens": torch.randn(2, 7, 6, dtype=torch.float64), **random_weights(6, 2)}
    norm = [torch.rand(6, dtype=torch.float64) + 0.5, torch.randn(6, dtype=torch.float64)]

    def attend(norm_weight, norm_bias, *values):
        return cross_covariance_attention(
            **dict(zip(leaves, values, strict=True)),
            norm=TokenNorm(norm_weight, norm_bias, 1e-6),
            form=form,
        )

    inputs = [value.requires_grad_() for value in (*norm, *leaves.values())]
    assert torch.autograd.gradcheck(attend, inputs)


@pytest.mark.parametrize("shape", [(2, 300, 24, 4), (1, 2500, 96, 4), (3, 10, 24, 4)])
def test_gram_equals_direct(shape):
    batch, num_tokens, channels, heads = shape
    weights, tokens = random_weights(channels, heads), torch.randn(batch, num_tokens, channels)
    direct = run(tokens, weights, "direct", torch.float32)
    gram = run(tokens, weights, "gram", torch.float32)
    for name, error in errors(gram, {k: v.double() for k, v in direct.items()}).items():
        assert error < (2e-6 if name == "out" else 1e-5), name


@BOTH_FORMS
def test_working_through_large_inputs_in_pieces_changes_nothing(form):
    weights = {name: value.float() for name, value in random_weights(96, 4).items()}
    tokens = torch.randn(2, 40_000, 96)
    with torch.no_grad():
        in_pieces = cross_covariance_attention(tokens, **weights, form=form)
    at_once = cross_covariance_attention(tokens, **weights, form=form)
    assert (in_pieces - at_once).abs().max() <= 2e-6 * at_once.abs().max()


@BOTH_FORMS
def test_the_norm_comes_first(form):
    weights, tokens = random_weights(24, 3), torch.randn(2, 50, 24, dtype=torch.float64) * 5 + 1
    norm = TokenNorm(torch.rand(24).double(), torch.randn(24).double(), 1e-6)
    normed = torch.nn.functional.layer_norm(tokens, (24,), norm.weight, norm.bias, 1e-6)
    torch.testing.assert_close(
        cross_covariance_attention(tokens, **weights, norm=norm, form=form),
        cross_covariance_attention(normed, **weights, form=form),
    )


@BOTH_FORMS
def test_permuting_tokens_permutes_the_output(form):
    weights, tokens = random_weights(24, 3), torch.randn(2, 37, 24, dtype=torch.float64)
    order = torch.randperm(37)
    expected = cross_covariance_attention(tokens, **weights, form=form)[:, order]
    found = cross_covariance_attention(tokens[:, order], **weights, form=form)
    torch.testing.assert_close(found, expected)


@BOTH_FORMS
def test_scaling_queries_and_keys_changes_nothing(form):
    weights, tokens = random_weights(24, 3), torch.randn(2, 37, 24, dtype=torch.float64)
    scale = torch.ones(72, dtype=torch.float64)
    scale[:24], scale[24:48] = 1000, 0.001
    scaled = dict(
        weights,
        qkv_weight=weights["qkv_weight"] * scale[:, None],
        qkv_bias=weights["qkv_bias"] * scale,
    )
    torch.testing.assert_close(
        cross_covariance_attention(tokens, **scaled, form=form),
        cross_covariance_attention(tokens, **weights, form=form),
    )


def ill_conditioned(kind):
    tokens = torch.randn(2, 600, 48)
    if kind == "outlier channels":
        tokens[..., :2] *= 1e3
    elif kind == "outlier channels far from zero":
        tokens[..., :2] = tokens[..., :2] * 1e3 + 5e3
    elif kind == "near-constant channels":
        tokens[..., :24] = 3 + 1e-4 * tokens[..., :24]
    elif kind == "nearly equal tokens":
        tokens = tokens[:, :1] + 1e-4 * tokens
    elif kind == "equal tokens":
        tokens = tokens[:, :1].expand(-1, 600, -1).contiguous()
    elif kind == "fewer tokens than channels":
        tokens = tokens[:, :10]
    elif kind == "one token":
        tokens = tokens[:, :1]
    elif kind == "zeros":
        tokens = torch.zeros_like(tokens)
    return tokens


KINDS = [
    "ordinary",
    "outlier channels",
    "outlier channels far from zero",
    "near-constant channels",
    "nearly equal tokens",
    "equal tokens",
    "fewer tokens than channels",
    "one token",
    "zeros",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_ill_conditioned_tokens(kind, seed):
    """The gram form is within 10x of the direct form's distance from float64, and no NaN."""
    torch.manual_seed(seed)
    tokens, weights = ill_conditioned(kind), random_weights(48, 4, seed)
    weights = {name: value.float() for name, value in weights.items()}
    exact = run(tokens, weights, "direct", torch.float64)
    of_direct = errors(run(tokens, weights, "direct", torch.float32), exact)
    of_gram = errors(run(tokens, weights, "gram", torch.float32), exact)
    for name, error in of_gram.items():
        assert error <= 10 * (of_direct[name] + 1e-7), (name, error, of_direct[name])


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.bfloat16, None),
        (torch.float16, None),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
    ],
)
@pytest.mark.parametrize("kind", ["ordinary", "near-constant channels", "equal tokens"])
def test_half_precision_is_as_near_to_float64_as_the_direct_form(dtype, autocast, kind):
    half = autocast or dtype
    tokens = ill_conditioned(kind).to(half).float()
    weights = {n: w.to(half).float() for n, w in random_weights(48, 4).items()}
    exact = run(tokens, weights, "direct", torch.float64)
    of_direct = errors(run(tokens, weights, "direct", dtype, autocast), exact)
    of_gram = errors(run(tokens, weights, "gram", dtype, autocast), exact)
    rounding = torch.finfo(half).eps
    for name, error in of_gram.items():
        assert error <= 1.5 * max(of_direct[name], rounding), (name, error, of_direct[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_million_tokens_do_not_overflow(dtype):
    weights = random_weights(8, 2)
    tokens = (torch.randn(1, 1_000_000, 8) * 3 + 2).to(dtype)
    halves = {name: value.to(dtype) for name, value in weights.items()}
    expected = cross_covariance_attention(
        tokens.double(), **{n: w.double() for n, w in halves.items()}, form="direct"
    )
    with torch.no_grad():
        found = cross_covariance_attention(tokens, **halves, form="gram")
    assert found.dtype == dtype
    assert (found - expected).abs().max() <= 4 * torch.finfo(dtype).eps * expected.abs().max()


def test_dropout_drops_the_same_in_both_forms():
    weights, tokens = random_weights(24, 3), torch.randn(2, 37, 24, dtype=torch.float64)
    results = {}
    for form in ("direct", "gram"):
        torch.manual_seed(0)
        results[form] = cross_covariance_attention(tokens, **weights, dropout_p=0.5, form=form)
    torch.testing.assert_close(results["gram"], results["direct"])
    assert (results["gram"] - cross_covariance_attention(tokens, **weights)).abs().max() > 0.1


@BOTH_FORMS
def test_dropout_keeps_the_expectation(form):
    weights, tokens = random_weights(24, 3), torch.randn(2, 37, 24, dtype=torch.float64)
    plain = cross_covariance_attention(tokens, **weights, form=form)
    draws = [
        cross_covariance_attention(tokens, **weights, dropout_p=0.5, form=form) for _ in range(2000)
    ]
    torch.testing.assert_close(torch.stack(draws).mean(0), plain, rtol=0, atol=0.2)


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match=r"attention='fast'.*auto.*gram.*direct"):
        cross_covariance_attention(torch.randn(1, 5, 24), **random_weights(24, 3), form="fast")
