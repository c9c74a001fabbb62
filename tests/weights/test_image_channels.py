"""Weights for images of other channels respond to equal channels as before."""

import pytest
import torch
import torch.nn.functional as F
from timm.models import adapt_input_conv

from xcit_dense.weights import adapt_image_channels


@pytest.mark.parametrize("given", [1, 2, 3, 4, 6, 13])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 6, 13])
def test_equal_channels_give_the_same_response(given, wanted):
    weight = torch.randn(8, given, 3, 3)
    adapted = adapt_image_channels(weight, wanted)
    assert adapted.shape == (8, wanted, 3, 3)
    gray = torch.randn(1, 1, 9, 9)
    expected = F.conv2d(gray.expand(-1, given, -1, -1), weight)
    response = F.conv2d(gray.expand(-1, wanted, -1, -1), adapted)
    torch.testing.assert_close(response, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wanted", [1, 3, 6, 9])
def test_one_channel_and_multiples_of_three_are_as_in_timm(wanted):
    weight = torch.randn(8, 3, 3, 3)
    torch.testing.assert_close(
        adapt_image_channels(weight, wanted), adapt_input_conv(wanted, weight)
    )


def test_channels_are_dealt_out_in_turn():
    red, green, blue = weight = torch.tensor([1.0, 10.0, 100.0])
    weight = weight.view(1, 3, 1, 1)
    assert adapt_image_channels(weight, 4).flatten().tolist() == [red / 2, green, blue, red / 2]
    assert adapt_image_channels(weight, 2).flatten().tolist() == [red + blue, green]


@pytest.mark.parametrize("wanted", [4, 6, 7])
def test_widening_and_narrowing_again_gives_the_weight_back(wanted):
    weight = torch.randn(8, 3, 3, 3)
    again = adapt_image_channels(adapt_image_channels(weight, wanted), 3)
    torch.testing.assert_close(again, weight)


def test_the_type_stays():
    assert adapt_image_channels(torch.ones(2, 3, 1, 1).half(), 4).dtype == torch.half
