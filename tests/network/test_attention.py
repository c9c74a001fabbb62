"""Laws of cross-covariance attention, in both of its forms."""

import contextlib
import math

import pytest
import torch
from torch.func import functional_call

from xcit_dense.network import CrossCovarianceAttention

BOTH_FORMS = pytest.mark.parametrize("form", ["direct", "gram"])


def random_weights(channels, heads, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, std=1.0):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * std

    return {
        "qkv.weight": normal(3 * channels, channels, std=channels**-0.5),
        "qkv.bias": normal(3 * channels, std=0.1),
        "projection.weight": normal(channels, channels, std=channels**-0.5),
        "projection.bias": normal(channels, std=0.1),
        "temperature": torch.rand(heads, 1, 1, generator=generator, dtype=torch.float64) * 4 + 0.5,
    }


def attention_of(weights, form, dtype=torch.float64, **kwargs):
    heads, channels = len(weights["temperature"]), len(weights["projection.bias"])
    attention = CrossCovarianceAttention(channels, heads, form=form, **kwargs).to(dtype)
    attention.load_state_dict(weights)
    return attention


def reference(tokens, weights):
    """The paper's formula, head by head and entry by entry, in float64."""
    temperature = weights["temperature"].flatten()
    channels, width = tokens.shape[2], tokens.shape[2] // len(temperature)
    out = torch.zeros_like(tokens)
    for image, x in enumerate(tokens):
        qkv = x @ weights["qkv.weight"].T + weights["qkv.bias"]
        query, key, value = qkv.split(channels, dim=1)
        mixed = torch.zeros_like(x)
        for i in range(channels):
            head = i // width
            group = range(head * width, head * width + width)
            scores = torch.stack(
                [
                    temperature[head]
                    * (query[:, i] @ key[:, j])
                    / math.sqrt((query[:, i] @ query[:, i]) * (key[:, j] @ key[:, j]))
                    for j in group
                ]
            )
            mixed[:, i] = value[:, list(group)] @ (scores.exp() / scores.exp().sum())
        out[image] = mixed @ weights["projection.weight"].T + weights["projection.bias"]
    return out


def run(tokens, weights, form, dtype, autocast=None):
    """The output and all gradients, computed in a type from the same numbers."""
    attention = attention_of(weights, form, dtype)
    leaves = {"tokens": tokens.to(dtype).requires_grad_(), **dict(attention.named_parameters())}
    with torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext():
        out = attention(leaves["tokens"])
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
@torch.no_grad()
def test_equals_the_float64_reference(form, num_tokens):
    weights = random_weights(24, 3)
    tokens = torch.randn(2, num_tokens, 24, dtype=torch.float64)
    expected = reference(tokens, weights)
    exact = attention_of(weights, form)(tokens)
    torch.testing.assert_close(exact, expected, rtol=1e-10, atol=1e-10)
    found = attention_of(weights, form, torch.float32)(tokens.float()).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@BOTH_FORMS
@pytest.mark.parametrize("num_tokens", [1, 5])
def test_first_and_second_gradients_equal_finite_differences(form, num_tokens):
    attention = attention_of(random_weights(4, 2), form)
    names, parameters = zip(*attention.named_parameters(), strict=True)

    def attend(tokens, *values):
        return functional_call(attention, dict(zip(names, values, strict=True)), tokens)

    inputs = torch.randn(2, num_tokens, 4, dtype=torch.float64, requires_grad=True), *parameters
    assert torch.autograd.gradcheck(attend, inputs)
    assert torch.autograd.gradgradcheck(attend, inputs)


@BOTH_FORMS
def test_wanting_no_gradients_changes_nothing(form):
    attention = attention_of(random_weights(96, 4), form, torch.float32)
    tokens = torch.randn(2, 10_000, 96)
    with torch.no_grad():
        without = attention(tokens)
    assert (without - attention(tokens)).abs().max() <= 2e-6 * without.abs().max()


@pytest.mark.parametrize("scale", [0, 1e-14, 1e-13])
def test_vanishing_queries_attend_the_same_in_both_forms(scale):
    weights, tokens = random_weights(24, 3), torch.randn(2, 37, 24, dtype=torch.float64)
    weights["qkv.weight"][:24] *= scale
    weights["qkv.bias"][:24] *= scale
    direct, gram = (attention_of(weights, form)(tokens) for form in ("direct", "gram"))
    torch.testing.assert_close(gram, direct)


def outliers(tokens, far=0.0):
    return torch.cat([tokens[..., :2] * 1e3 + far, tokens[..., 2:]], dim=-1)


ILL_CONDITIONED = {
    "ordinary": lambda x: x,
    "outlier channels": outliers,
    "outlier channels far from zero": lambda x: outliers(x, 5e3),
    "near-constant channels": lambda x: torch.cat([3 + 1e-4 * x[..., :24], x[..., 24:]], dim=-1),
    "nearly equal tokens": lambda x: x[:, :1] + 1e-4 * x,
    "equal tokens": lambda x: x[:, :1].expand(-1, 600, -1).contiguous(),
    "fewer tokens than channels": lambda x: x[:, :10],
    "one token": lambda x: x[:, :1],
    "zeros": torch.zeros_like,
}


def ill_conditioned(kind):
    return ILL_CONDITIONED[kind](torch.randn(2, 600, 48))


@pytest.mark.parametrize("kind", ILL_CONDITIONED)
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


@pytest.mark.parametrize(
    ("form", "dtype"),
    [("gram", torch.float16), ("gram", torch.bfloat16), ("direct", torch.float16)],
)
@torch.no_grad()
def test_sums_over_many_tokens_do_not_overflow(form, dtype):
    tokens = (torch.randn(1, 100_000, 8) * 3 + 2).to(dtype)
    attention = attention_of(random_weights(8, 2), form, dtype)
    found = attention(tokens)
    expected = attention_of(attention.state_dict(), "direct")(tokens.double())
    assert found.dtype == dtype
    assert (found - expected).abs().max() <= 4 * torch.finfo(dtype).eps * expected.abs().max()


def test_dropout_drops_the_same_in_both_forms_and_in_training_only():
    weights, tokens = random_weights(24, 3), torch.randn(2, 37, 24, dtype=torch.float64)
    plain = attention_of(weights, "direct")(tokens)
    found = []
    for form in ("direct", "gram"):
        attention = attention_of(weights, form, attention_dropout=0.5, projection_dropout=0.5)
        torch.manual_seed(0)
        found.append(attention(tokens))
        torch.testing.assert_close(attention.eval()(tokens), plain)
    torch.testing.assert_close(*found)
    assert (found[0] - plain).abs().max() > 0.1


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match=r"attention='fast'.*auto.*gram.*direct"):
        CrossCovarianceAttention(24, 3, form="fast")
