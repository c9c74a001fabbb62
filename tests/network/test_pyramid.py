"""The pyramid: strides, places, sizes that do not divide."""

import pytest
import torch
from torch import nn

from xcit_dense.network import STRIDES, Pyramid


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (224, 224), (800, 1333), (33, 8)])
def test_levels_have_the_declared_strides(patch_size, size):
    grid = [-(-side // patch_size) for side in size]
    levels = Pyramid(8, patch_size).eval()([torch.randn(1, 8, *grid)] * 4, size)
    for level, stride in zip(levels, STRIDES, strict=True):
        assert level.shape == (1, 8, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize(
    ("patch_size", "transposed_convs"), [(16, [2, 1, 0, 0]), (8, [1, 0, 0, 0])]
)
def test_layers_are_those_of_the_release(patch_size, transposed_convs):
    pyramid = Pyramid(8, patch_size)
    count = [
        sum(isinstance(m, nn.ConvTranspose2d) for m in level.modules())
        for level in pyramid.levels.values()
    ]
    assert count == transposed_convs


@pytest.mark.parametrize("patch_size", [8, 16])
def test_a_patch_stays_in_its_place(patch_size):
    """What a patch holds is seen, at every level, at the pixels of that patch and nowhere else."""
    pyramid = Pyramid(4, patch_size).eval()
    image_size = (8 * patch_size, 8 * patch_size)
    for index, stride in enumerate(STRIDES):
        feature_map = torch.rand(1, 4, 8, 8, requires_grad=True)
        level = pyramid([feature_map] * 4, image_size)[index]
        row, column = 3 * patch_size // stride, 6 * patch_size // stride
        level[0, :, row, column].sum().backward()
        rows, columns = feature_map.grad[0].abs().sum(0).nonzero(as_tuple=True)
        cell = max(1, stride // patch_size)
        assert set((rows // cell).tolist()) == {3 // cell}
        assert set((columns // cell).tolist()) == {6 // cell}
