"""Maps of attention divide its logits among the places, exactly."""

import pytest
import torch

from xcit_dense.look.attention_maps import channel_attention, driving_places, place_contributions
from xcit_dense.network import CrossCovarianceAttention

BATCH, PLACES, CHANNELS, HEADS = 2, 30, 24, 3
WIDTH = CHANNELS // HEADS


@pytest.fixture
def weights():
    double = torch.float64
    return {
        "qkv_weight": torch.randn(3 * CHANNELS, CHANNELS, dtype=double),
        "qkv_bias": torch.randn(3 * CHANNELS, dtype=double),
        "temperature": torch.rand(HEADS, 1, 1, dtype=double) * 5 + 1,
    }


@pytest.fixture
def tokens():
    return torch.randn(BATCH, PLACES, CHANNELS, dtype=torch.float64)


@pytest.mark.parametrize("form", ["direct", "gram"])
def test_the_attention_is_that_of_the_forward_pass(weights, tokens, form):
    seen = channel_attention(tokens, **weights)
    ours = (seen.value @ seen.attention.mT).transpose(1, 2).flatten(2)
    layer = CrossCovarianceAttention(CHANNELS, HEADS, form=form).double()
    with torch.no_grad():
        layer.qkv.weight.copy_(weights["qkv_weight"])
        layer.qkv.bias.copy_(weights["qkv_bias"])
        layer.temperature.copy_(weights["temperature"])
        assert torch.allclose(layer.projection(ours), layer(tokens), rtol=1e-10, atol=1e-12)


def test_contributions_to_one_logit_sum_to_it(weights, tokens):
    seen = channel_attention(tokens, **weights)
    one = torch.zeros(BATCH, HEADS, WIDTH, WIDTH, dtype=torch.float64)
    one[..., 2, 5] = 1
    places = place_contributions(seen.query, seen.key, weights["temperature"], one)
    by_formula = weights["temperature"][..., 0] * seen.query[..., 2] * seen.key[..., 5]
    assert torch.allclose(places, by_formula)
    assert torch.allclose(places.sum(-1), seen.logits[..., 2, 5])


def test_a_map_divides_the_distance_from_uniform_attention(weights, tokens):
    seen = channel_attention(tokens, **weights)
    maps = driving_places(seen, weights["temperature"])
    assert maps.shape == (BATCH, HEADS, PLACES)
    log = seen.attention.log()
    uniform = 1 / WIDTH
    there = (seen.attention * (log - torch.tensor(uniform).log())).sum(-1)
    back = (uniform * (torch.tensor(uniform).log() - log)).sum(-1)
    assert torch.allclose(maps.sum(-1), (there + back).sum(-1))
    assert (maps.sum(-1) > 0).all()


def test_uniform_attention_has_an_empty_map(weights, tokens):
    weights["temperature"].zero_()
    seen = channel_attention(tokens, **weights)
    assert not driving_places(seen, weights["temperature"]).any()


def test_places_that_move_together_move_in_the_map(weights, tokens):
    order = torch.randperm(PLACES)
    maps, moved = (
        driving_places(channel_attention(t, **weights), weights["temperature"])
        for t in (tokens, tokens[:, order])
    )
    assert torch.allclose(moved, maps[..., order])


def test_single_precision_is_near_double(weights, tokens):
    exact = driving_places(channel_attention(tokens, **weights), weights["temperature"])
    weights = {name: tensor.float() for name, tensor in weights.items()}
    single = driving_places(channel_attention(tokens.float(), **weights), weights["temperature"])
    assert (single - exact).abs().max() < 1e-5 * exact.abs().max()
