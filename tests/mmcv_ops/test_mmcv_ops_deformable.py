"""Deformable convolutions against a sum over taps of grid_sample, differentiated by autograd."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import (  # noqa: E402
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)

DTYPES = [torch.float32, torch.float64]
LOW_DTYPES = [torch.float16, torch.bfloat16]
KERNEL = (3, 2)
# stride, padding, dilation (all height, width), groups, offset groups
CASES = [
    ((1, 1), (0, 0), (1, 1), 1, 1),
    ((2, 1), (1, 2), (1, 2), 1, 2),
    ((1, 2), (2, 0), (2, 1), 2, 2),
    ((1, 1), (1, 1), (1, 1), 4, 1),
]


def random_operands(case, dtype=torch.float64, batch=2, size=(7, 6)):
    """Input, offset, mask, weight and bias for 4 input and 4 output channels."""
    stride, padding, dilation, groups, offset_groups = case
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)

    output_size = [
        (size[i] + 2 * padding[i] - dilation[i] * (KERNEL[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    taps = offset_groups * KERNEL[0] * KERNEL[1]
    return (
        rand(batch, 4, *size),
        rand(batch, 2 * taps, *output_size) * 3 - 1.5,
        rand(batch, taps, *output_size),
        rand(4, 4 // groups, *KERNEL) - 0.5,
        rand(4),
    )


def sample(image, y, x):
    """Bilinear values of image (B, C, H, W) at cells y, x (B, Ho, Wo), zeros around the map."""
    height, width = image.shape[-2:]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    return F.grid_sample(image, grid, align_corners=False)


def plain_deform_conv(input, offset, mask, weight, bias, case):
    stride, padding, dilation, groups, offset_groups = case
    output_height, output_width = offset.shape[-2:]
    rows = torch.arange(output_height)[:, None] * stride[0] - padding[0]
    columns = torch.arange(output_width)[None, :] * stride[1] - padding[1]
    offset = offset.unflatten(1, (offset_groups, KERNEL[0] * KERNEL[1], 2))
    if mask is not None:
        mask = mask.unflatten(1, (offset_groups, KERNEL[0] * KERNEL[1]))
    output = torch.zeros((), dtype=input.dtype)
    for tap, (i, j) in enumerate(product(range(KERNEL[0]), range(KERNEL[1]))):
        sampled = []
        for number, channels in enumerate(input.chunk(offset_groups, dim=1)):
            y = offset[:, number, tap, 0] + rows + i * dilation[0]
            x = offset[:, number, tap, 1] + columns + j * dilation[1]
            values = sample(channels, y, x)
            sampled.append(values if mask is None else values * mask[:, number, tap, None])
        pointwise = weight[:, :, i : i + 1, j : j + 1]
        output = output + F.conv2d(torch.cat(sampled, dim=1), pointwise, groups=groups)
    return output if bias is None else output + bias[:, None, None]


def output_and_gradients(function, operands):
    operands = [operand.detach().requires_grad_() for operand in operands]
    output = function(*operands)
    weights = torch.linspace(-1, 2, output.numel()).to(output).view(output.shape)
    gradients = torch.autograd.grad((output * weights).sum(), operands)
    return output.detach().cpu(), *(gradient.cpu() for gradient in gradients)


def assert_all_equal(served, plain, operands, device):
    dtype = operands[0].dtype
    actual = output_and_gradients(served, [operand.to(device) for operand in operands])
    expected = output_and_gradients(plain, [operand.double() for operand in operands])
    assert all(tensor.dtype == dtype for tensor in actual)
    tolerance = dict(rtol=1e-9, atol=1e-9) if dtype == torch.float64 else dict(rtol=1e-4, atol=1e-4)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.double(), other, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_deform_conv2d_equals_the_sum_over_taps(case, dtype, device):
    input, offset, _, weight, _ = random_operands(case, dtype)
    assert_all_equal(
        lambda *operands: deform_conv2d(*operands, *case),
        lambda x, o, w: plain_deform_conv(x, o, None, w, None, case),
        (input, offset, weight),
        device,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_modulated_deform_conv2d_equals_the_sum_over_taps(case, dtype, device):
    operands = random_operands(case, dtype)
    assert_all_equal(
        lambda *operands: modulated_deform_conv2d(*operands, *case),
        lambda *operands: plain_deform_conv(*operands, case),
        operands,
        device,
    )


def test_modulated_deform_conv2d_without_bias(device):
    assert_all_equal(
        lambda *operands: modulated_deform_conv2d(*operands, None, *CASES[1]),
        lambda *operands: plain_deform_conv(*operands, None, CASES[1]),
        random_operands(CASES[1])[:4],
        device,
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_larger_offsets_and_masks_are_read_value_by_value(layout, device):
    """As mmcv's kernels do, and DyHead needs it."""
    input, offset, mask, weight, bias = random_operands(CASES[1])
    generator = torch.Generator().manual_seed(1)

    def seen(taps, like):
        return torch.stack([image.flatten()[: like[0].numel()].view_as(like[0]) for image in taps])

    def larger(like):
        size = (*like.shape[:2], 2 * like.shape[2], 2 * like.shape[3])
        return torch.rand(size, generator=generator, dtype=like.dtype).to(memory_format=layout)

    assert_all_equal(
        lambda *operands: modulated_deform_conv2d(*operands, *CASES[1]),
        lambda x, o, m, w, b: plain_deform_conv(x, seen(o, offset), seen(m, mask), w, b, CASES[1]),
        (input, larger(offset), larger(mask), weight, bias),
        device,
    )


def test_too_few_offsets_are_refused():
    input, offset, mask, weight, bias = random_operands(CASES[1])
    with pytest.raises(RuntimeError, match="offset output dims"):
        modulated_deform_conv2d(input, offset[..., 1:], mask, weight, bias, *CASES[1])


def test_gradients_pass_gradcheck():
    case = ((1, 1), (1, 0), (1, 1), 2, 2)
    operands = [o.requires_grad_() for o in random_operands(case, batch=1, size=(3, 3))]
    input, offset, _, weight, _ = operands
    assert torch.autograd.gradcheck(lambda *o: modulated_deform_conv2d(*o, *case), operands)
    assert torch.autograd.gradcheck(lambda *o: deform_conv2d(*o, *case), (input, offset, weight))


def test_gradient_of_some_operands_only():
    input, offset, _, weight, _ = random_operands(CASES[0])
    everything = output_and_gradients(
        lambda *operands: deform_conv2d(*operands, *CASES[0]), (input, offset, weight)
    )
    weight_alone = output_and_gradients(
        lambda w: deform_conv2d(input, offset, w, *CASES[0]), (weight,)
    )
    torch.testing.assert_close(weight_alone[1], everything[3])


def test_offset_of_a_tap_exactly_one_cell_before_the_map_gets_no_gradient():
    """As in mmcv's kernels; DCN layers start from zero offsets and padding 1."""
    input = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    weight = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    offset = torch.zeros(1, 18, 4, 4, dtype=torch.float64)
    mask = torch.ones(1, 9, 4, 4, dtype=torch.float64)
    plain = output_and_gradients(lambda o: deform_conv2d(input, o, weight, 1, 1), (offset,))[1]
    modulated = output_and_gradients(
        lambda o: modulated_deform_conv2d(input, o, mask, weight, None, 1, 1), (offset,)
    )[1]
    by_tap = plain.view(3, 3, 2, 4, 4)
    assert not by_tap[0, :, :, 0].any()  # the upper taps of the first row are at y = -1
    assert not by_tap[:, 0, :, :, 0].any()  # the left taps of the first column are at x = -1
    assert by_tap[0, 1, :, 1:].all()
    torch.testing.assert_close(plain, modulated)


def test_taps_whose_offset_is_not_a_number_lie_outside():
    """As in mmcv's kernels; torchvision's would read memory that is not theirs."""
    input, offset, mask, weight, bias = random_operands(CASES[0])
    lost = torch.zeros_like(offset, dtype=torch.bool)
    lost[:, 4:7] = True  # rows and columns of one tap, rows of the next
    outside = offset.masked_fill(lost, 1e4)
    expected = output_and_gradients(
        lambda *o: modulated_deform_conv2d(*o, *CASES[0]), (input, outside, mask, weight, bias)
    )
    offset = offset.masked_fill(lost, torch.nan)
    found = output_and_gradients(
        lambda *o: modulated_deform_conv2d(*o, *CASES[0]), (input, offset, mask, weight, bias)
    )
    for ours, wanted in zip(found, expected, strict=True):
        assert torch.equal(ours, wanted)
    nowhere = torch.full_like(offset, torch.nan)
    assert not deform_conv2d(input, nowhere, weight, *CASES[0]).any()


@pytest.mark.parametrize("dtype", LOW_DTYPES)
def test_low_precision_equals_float32_rounded(dtype, device):
    operands = [operand.to(device) for operand in random_operands(CASES[1], dtype)]
    actual = output_and_gradients(lambda *o: modulated_deform_conv2d(*o, *CASES[1]), operands)
    expected = output_and_gradients(
        lambda *o: modulated_deform_conv2d(*o, *CASES[1]), [o.float() for o in operands]
    )
    assert all(tensor.dtype == dtype for tensor in actual)
    torch.testing.assert_close(actual[0], expected[0].to(dtype))
    for one, other in zip(actual[1:], expected[1:], strict=True):
        torch.testing.assert_close(one.float(), other, rtol=5e-2, atol=1e-1)


def test_channels_last_changes_nothing(device):
    operands = [operand.to(device) for operand in random_operands(CASES[2], torch.float32)]
    apart = [
        operand.to(memory_format=torch.channels_last) if operand.dim() == 4 else operand
        for operand in operands
    ]
    torch.testing.assert_close(
        output_and_gradients(lambda *o: modulated_deform_conv2d(*o, *CASES[2]), apart),
        output_and_gradients(lambda *o: modulated_deform_conv2d(*o, *CASES[2]), operands),
    )


@pytest.mark.parametrize("layer_type", [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_layers_start_as_a_plain_convolution(layer_type, device):
    torch.manual_seed(0)
    layer = layer_type(4, 6, 3, padding=1, groups=2).to(device)
    with torch.no_grad():
        layer.conv_offset.weight.zero_()
    input = torch.rand(2, 4, 5, 5, device=device)
    output = layer(input)
    factor = 0.5 if layer_type is ModulatedDeformConv2dPack else 1.0  # sigmoid of mask logit 0
    expected = F.conv2d(input, layer.weight, padding=1, groups=2) * factor
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    output.sum().backward()
    assert layer.weight.grad.any()
