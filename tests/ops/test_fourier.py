"""Laws of the position grid."""

import math

import pytest
import torch

from xcit_dense.ops import fourier_position_grid


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (50, 84)])
def test_equals_the_formula(height, width):
    grid = fourier_position_grid(height, width, num_frequencies=8).double()
    assert grid.shape == (16, height, width)
    for feature in range(8):
        frequency = 10000 ** (-2 * (feature // 2) / 8)
        wave = math.sin if feature % 2 == 0 else math.cos
        for row in range(height):
            expected = wave((row + 1) / (height + 1e-6) * 2 * math.pi * frequency)
            assert torch.allclose(grid[feature, row], torch.tensor(expected).double(), atol=1e-5)
        for column in range(width):
            expected = wave((column + 1) / (width + 1e-6) * 2 * math.pi * frequency)
            assert torch.allclose(
                grid[8 + feature, :, column], torch.tensor(expected).double(), atol=1e-5
            )


def test_every_place_has_a_code_of_its_own():
    codes = fourier_position_grid(20, 30).flatten(1).T
    distances = torch.cdist(codes, codes) + 10 * torch.eye(len(codes))
    assert distances.min() > 1e-2


def test_the_grid_follows_the_relative_place():
    coarse, fine = fourier_position_grid(10, 10), fourier_position_grid(20, 20)
    torch.testing.assert_close(fine[:, 1::2, 1::2], coarse, rtol=0, atol=1e-5)
