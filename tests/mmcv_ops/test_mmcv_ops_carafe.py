"""CARAFE against loops over output cells and taps."""

from itertools import product

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import CARAFEPack, carafe, carafe_naive  # noqa: E402

from xcit_dense.mmcv_ops.carafe import carafe_naive_backward  # noqa: E402

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# kernel size, groups, scale
CASES = [(3, 2, 2), (1, 1, 3), (5, 4, 1), (5, 1, 2)]


def random_operands(case, dtype=torch.float64, batch=2, size=(3, 4)):
    """Features with 4 channels, and masks."""
    kernel_size, groups, scale = case
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(batch, 4, *size, generator=generator, dtype=torch.float64)
    masks = torch.rand(
        (batch, groups * kernel_size**2, size[0] * scale, size[1] * scale),
        generator=generator,
        dtype=torch.float64,
    )
    return features.to(dtype), masks.to(dtype)


def plain(features, masks, kernel_size, groups, scale):
    batch, channels, height, width = features.shape
    cells = []
    for n, c, y, x in product(*map(range, (batch, channels, height * scale, width * scale))):
        first_mask = c // (channels // groups) * kernel_size**2
        total = features.new_zeros(())
        for i, j in product(range(kernel_size), repeat=2):
            row, column = y // scale + i - kernel_size // 2, x // scale + j - kernel_size // 2
            if 0 <= row < height and 0 <= column < width:
                weight = masks[n, first_mask + i * kernel_size + j, y, x]
                total = total + weight * features[n, c, row, column]
        cells.append(total)
    return torch.stack(cells).view(batch, channels, height * scale, width * scale)


@pytest.mark.parametrize("case", CASES)
def test_carafe_equals_the_plain_loops(case, assert_equal_with_gradients):
    assert_equal_with_gradients(
        lambda *operands: carafe(*operands, *case),
        lambda *operands: plain(*operands, *case),
        random_operands(case),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_carafe_in_every_precision(dtype, assert_equal_with_gradients):
    assert_equal_with_gradients(
        lambda *operands: carafe(*operands, *CASES[0]),
        lambda *operands: plain(*operands, *CASES[0]),
        random_operands(CASES[0], dtype, batch=1),
    )


def test_gradients_pass_gradcheck():
    operands = [o.requires_grad_() for o in random_operands(CASES[0], batch=1, size=(2, 3))]
    assert torch.autograd.gradcheck(lambda *o: carafe(*o, *CASES[0]), operands)


def test_the_naive_form_is_the_same_op(output_and_gradients, device):
    operands = [operand.to(device) for operand in random_operands(CASES[0])]
    output, *expected = output_and_gradients(lambda *o: carafe(*o, *CASES[0]), operands)
    assert torch.equal(carafe_naive(*operands, *CASES[0]).cpu(), output)

    # mmcv's own backward of the naive form asserts a GPU before it calls the op.
    weights = torch.linspace(-1, 2, output.numel()).view(output.shape).double().to(device)
    gradients = [torch.full_like(operand, torch.nan) for operand in operands]
    carafe_naive_backward(weights, *operands, *gradients, *CASES[0])
    torch.testing.assert_close([gradient.cpu() for gradient in gradients], expected)


def test_channels_last_changes_nothing(output_and_gradients):
    operands = random_operands(CASES[0])
    apart = [operand.to(memory_format=torch.channels_last) for operand in operands]
    torch.testing.assert_close(
        output_and_gradients(lambda *o: carafe(*o, *CASES[0]), apart),
        output_and_gradients(lambda *o: carafe(*o, *CASES[0]), operands),
    )


def test_masks_that_pick_the_middle_tap_repeat_each_cell():
    features = torch.rand(1, 4, 3, 2)
    masks = torch.zeros(1, 9, 6, 4)
    masks[:, 4] = 1
    repeated = features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(carafe(features, masks, 3, 1, 2), repeated)


def test_mmcv_refuses_masks_of_another_size():
    features, masks = random_operands(CASES[0])
    with pytest.raises(AssertionError):
        carafe(features, masks[..., :-1], *CASES[0])


def test_the_layer_trains(device):
    layer = CARAFEPack(4, scale_factor=2, up_kernel=3, up_group=2, compressed_channels=3).to(device)
    features = torch.rand(2, 4, 3, 5, device=device, requires_grad=True)
    output = layer(features)
    assert output.shape == (2, 4, 6, 10)
    output.square().sum().backward()
    assert features.grad.any()
    assert all(parameter.grad.any() for parameter in layer.parameters())
