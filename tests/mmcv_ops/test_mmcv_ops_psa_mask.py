"""PSAMask against a loop over cells and weights."""

from itertools import product

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import PSAMask  # noqa: E402

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# Smaller than the map, even, larger than the map, so large that some weights reach no cell.
MASK_SIZES = [(3, 3), (2, 4), (7, 5), (13, 11)]
SIZE = (4, 3)


def random_weights(mask_size, dtype=torch.float64, batch=2):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, mask_size[0] * mask_size[1], *SIZE)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def plain(weights, psa_type, mask_size):
    height, width = SIZE
    weights = weights.unflatten(1, mask_size)
    output = weights.new_zeros(len(weights), height * width, height * width)
    for h, w, a, b in product(range(height), range(width), *map(range, mask_size)):
        row, column = h + a - (mask_size[0] - 1) // 2, w + b - (mask_size[1] - 1) // 2
        if 0 <= row < height and 0 <= column < width:
            source, target = h * width + w, row * width + column
            place = (target, source) if psa_type == "collect" else (source, target)
            output[:, place[0], place[1]] = weights[:, a, b, h, w]
    return output.unflatten(2, SIZE)


@pytest.mark.parametrize("psa_type", ["collect", "distribute"])
@pytest.mark.parametrize("mask_size", MASK_SIZES)
def test_equals_the_plain_loop(psa_type, mask_size, assert_equal_with_gradients):
    assert_equal_with_gradients(
        PSAMask(psa_type, mask_size),
        lambda weights: plain(weights, psa_type, mask_size),
        [random_weights(mask_size)],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("psa_type", ["collect", "distribute"])
def test_every_precision_is_exact(psa_type, dtype, output_and_gradients, device):
    weights = random_weights((3, 5), dtype)
    layer = PSAMask(psa_type, (3, 5))
    output, gradient = output_and_gradients(layer, [weights.to(device)])
    expected = output_and_gradients(lambda w: plain(w, psa_type, (3, 5)), [weights])
    assert torch.equal(output, expected[0])
    assert torch.equal(gradient, expected[1])


def test_gradients_pass_gradcheck():
    weights = random_weights((3, 5), batch=1).requires_grad_()
    assert torch.autograd.gradcheck(PSAMask("collect", (3, 5)), weights)


def test_distribute_is_collect_transposed():
    weights = random_weights((3, 5))
    collected = PSAMask("collect", (3, 5))(weights).flatten(2)
    distributed = PSAMask("distribute", (3, 5))(weights).flatten(2)
    assert torch.equal(distributed, collected.transpose(1, 2))


def test_memory_layout_changes_nothing():
    weights = random_weights((3, 5))
    apart = weights.to(memory_format=torch.channels_last)
    layer = PSAMask("collect", (3, 5))
    assert torch.equal(layer(apart), layer(weights))


def test_mmcv_refuses_another_number_of_channels():
    with pytest.raises(AssertionError):
        PSAMask("collect", (3, 3))(random_weights((3, 5)))
