"""Tokens, maps, padding and cropping."""

import pytest
import torch

from xcit_dense.ops import crop_map, map_to_tokens, pad_to_multiple, tokens_to_map


def test_tokens_and_maps_are_views_of_each_other():
    tokens = torch.randn(2, 12, 5)
    feature_map = tokens_to_map(tokens, 3, 4)
    assert feature_map.shape == (2, 5, 3, 4)
    assert torch.equal(feature_map[:, :, 2, 1], tokens[:, 2 * 4 + 1])
    assert torch.equal(map_to_tokens(feature_map), tokens)
    assert feature_map.data_ptr() == tokens.data_ptr()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 31), (32, 15)])
def test_padding_adds_zeros_at_the_bottom_and_the_right_only(size):
    image = torch.rand(1, 3, *size) + 1
    padded = pad_to_multiple(image, 16)
    assert padded.shape[-2] % 16 == padded.shape[-1] % 16 == 0
    assert padded.shape[-2] - size[0] < 16
    assert padded.shape[-1] - size[1] < 16
    assert torch.equal(crop_map(padded, *size), image)
    assert padded.sum() == pytest.approx(image.sum().item())


def test_an_image_that_fits_is_not_copied():
    image = torch.rand(1, 3, 32, 16)
    assert pad_to_multiple(image, 16) is image
