"""Laws of the position codes."""

import math

import pytest
import torch

from xcit_dense.network import FourierPositionEncoding, fourier_position_codes


@pytest.mark.parametrize("length", [1, 5, 84])
def test_equals_the_formula(length):
    codes = fourier_position_codes(length, num_frequencies=8).double()
    assert codes.shape == (length, 8)
    for feature in range(8):
        frequency = 10000 ** (-2 * (feature // 2) / 8)
        wave = math.sin if feature % 2 == 0 else math.cos
        for place in range(length):
            expected = wave((place + 1) / (length + 1e-6) * 2 * math.pi * frequency)
            assert abs(codes[place, feature].item() - expected) < 1e-5


def test_every_place_has_a_code_of_its_own():
    codes = fourier_position_codes(300)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(len(codes))
    assert distances.min() > 1e-2


def test_the_codes_follow_the_relative_place():
    coarse, fine = fourier_position_codes(10), fourier_position_codes(20)
    torch.testing.assert_close(fine[1::2], coarse, rtol=0, atol=1e-5)


def test_the_encoding_of_a_place_is_the_projection_of_its_row_and_its_column():
    encoding, place = FourierPositionEncoding(48), (3, 11)
    codes = [fourier_position_codes(n)[i] for n, i in zip((5, 13), place, strict=True)]
    weight, bias = encoding.projection.weight[:, :, 0, 0], encoding.projection.bias
    torch.testing.assert_close(
        encoding(5, 13)[(0, slice(None), *place)], weight @ torch.cat(codes) + bias
    )
