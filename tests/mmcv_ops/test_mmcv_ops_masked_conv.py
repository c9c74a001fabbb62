"""MaskedConv2d against the whole convolution, and its two ops against loops."""

from itertools import product

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import MaskedConv2d  # noqa: E402

from xcit_dense.mmcv_ops.masked_conv import (  # noqa: E402
    masked_col2im_forward,
    masked_im2col_forward,
)

SIZE = (5, 6)
# kernel size, padding
CASES = [(3, 1), ((3, 1), (1, 0)), (1, 0), ((2, 3), (0, 2)), (5, 1)]

# mmcv's own call of torch.addmm
pytestmark = pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated")


def random_mask(size=SIZE):
    return (torch.rand(1, *size) - 0.5).clamp(min=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_layer_equals_the_whole_convolution_where_the_mask_is_set(case, dtype, device):
    kernel_size, padding = case
    layer = MaskedConv2d(3, 4, kernel_size, padding=padding).to(device, dtype)
    image = torch.rand(1, 3, *SIZE).to(device, dtype)
    whole = layer(image)
    mask = random_mask().to(device)
    mask[:, whole.shape[2] :] = 0
    mask[:, :, whole.shape[3] :] = 0
    kept = (mask > 0)[:, None, : whole.shape[2], : whole.shape[3]]
    if kept.shape[2:] != whole.shape[2:]:  # padding made the output larger than the mask
        kept = torch.nn.functional.pad(
            kept, (0, whole.shape[3] - kept.shape[3], 0, whole.shape[2] - kept.shape[2])
        )
    assert kept.any()
    masked = layer(image, mask)
    assert masked.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(masked, whole * kept, rtol=tolerance, atol=tolerance)


def test_columns_equal_the_plain_loop(device):
    image = torch.rand(1, 2, *SIZE, device=device)
    rows, columns = (torch.tensor(i, device=device) for i in ([0, 4, 2], [0, 5, 3]))
    col = torch.full((2 * 3 * 2, 3), torch.nan, device=device)
    masked_im2col_forward(image, rows, columns, col, kernel_h=3, kernel_w=2, pad_h=1, pad_w=0)
    for line, (c, i, j) in enumerate(product(range(2), range(3), range(2))):
        for number, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            y, x = row + i - 1, column + j
            inside = 0 <= y < SIZE[0] and 0 <= x < SIZE[1]
            assert col[line, number] == (image[0, c, y, x] if inside else 0)


def test_positions_without_a_mask_are_left_as_they_are(device):
    image = torch.full((1, 2, 2, 3), 7.0, device=device)
    rows, columns = (torch.tensor(i, device=device) for i in ([0, 1], [2, 0]))
    values = torch.tensor([[1.0, 2], [3, 4]], device=device)
    masked_col2im_forward(values, rows, columns, image, height=2, width=3, channels=2)
    expected = [[[7.0, 7, 1], [2, 7, 7]], [[7, 7, 3], [4, 7, 7]]]
    assert image[0].tolist() == expected


def test_an_empty_mask_gives_zeros():
    output = MaskedConv2d(3, 4, 3, padding=1)(torch.rand(1, 3, *SIZE), torch.zeros(1, *SIZE))
    assert output.shape == (1, 4, *SIZE)
    assert not output.any()


def test_a_mask_beyond_the_output_is_an_error():
    """mmcv's kernel writes into other memory there."""
    layer = MaskedConv2d(3, 4, 3)
    with pytest.raises(ValueError, match=r"output of 3 x 4 cells.*marks row 4 and column 5"):
        layer(torch.rand(1, 3, *SIZE), torch.ones(1, *SIZE))


@pytest.mark.parametrize("position", [(2, 0), (0, 3)])
def test_the_first_position_beyond_the_output_is_an_error(position):
    row, column = (torch.tensor([index]) for index in position)
    with pytest.raises(ValueError, match="output of 2 x 3 cells"):
        masked_col2im_forward(
            torch.ones(1, 1), row, column, torch.zeros(1, 1, 2, 3), height=2, width=3, channels=1
        )


def test_without_a_mask_the_layer_trains():
    layer = MaskedConv2d(3, 4, 3, padding=1)
    layer(torch.rand(2, 3, *SIZE)).sum().backward()
    assert layer.weight.grad.any()
