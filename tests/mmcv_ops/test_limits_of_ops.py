"""Where the served ops meet the ends of their domain: nothing, kinks, ties, NaN, bad input."""

import pytest
import torch

pytest.importorskip("mmcv", reason="the ops are those of mmcv")

from mmcv.ops import (
    BorderAlign,
    MaskedConv2d,
    RoIPool,
    carafe,
    carafe_naive,
    deform_conv2d,
    deform_roi_pool,
    modulated_deform_conv2d,
    roi_align,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

# mmcv's own call of torch.addmm
pytestmark = pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated")

NO_ROIS, NO_TARGETS = torch.zeros(0, 5), torch.zeros(0, dtype=torch.long)


def attend(value, locations, weights):
    """Attention of one image to levels of 2 x 3 and 1 x 2 cells."""
    shapes, starts = torch.tensor([[2, 3], [1, 2]]), torch.tensor([0, 6])
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


@pytest.mark.parametrize(
    "op, input_size, output_size",
    [
        (lambda x: roi_align(x, NO_ROIS, 2), (2, 3, 5, 6), (0, 3, 2, 2)),
        (lambda x: roi_align(x, NO_ROIS, 2, 1.0, 0, "max"), (2, 3, 5, 6), (0, 3, 2, 2)),
        (lambda x: RoIPool(2)(x, NO_ROIS), (2, 3, 5, 6), (0, 3, 2, 2)),
        (lambda x: deform_roi_pool(x, NO_ROIS, None, 2), (0, 3, 5, 6), (0, 3, 2, 2)),
        (lambda x: BorderAlign(3)(x, torch.zeros(2, 0, 4)), (2, 12, 5, 6), (2, 3, 0, 4)),
        (
            lambda x: attend(x, torch.zeros(1, 0, 2, 2, 4, 2), torch.zeros(1, 0, 2, 2, 4)),
            (1, 8, 2, 3),
            (1, 0, 6),
        ),
        (lambda x: sigmoid_focal_loss(x, NO_TARGETS, 2.0, 0.25, None, "sum"), (0, 4), ()),
        (lambda x: softmax_focal_loss(x, NO_TARGETS, 2.0, 0.25, None, "sum"), (0, 4), ()),
    ],
)
def test_of_nothing(op, input_size, output_size):
    features = torch.rand(input_size, requires_grad=True)
    output = op(features)
    assert output.shape == output_size
    output.sum().backward()
    assert features.grad.shape == features.shape
    assert not output.any()
    assert not features.grad.any()


def test_many_rois_are_pooled_as_few_are(output_and_gradients):
    """They are taken in portions, to bound the memory; torchvision's RoIAlign does not."""
    corners = torch.rand(400, 2, dtype=torch.float64) * 6
    rois = torch.cat((torch.zeros(400, 1), corners, corners + 3), dim=1)
    image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(
        output_and_gradients(lambda x: deform_roi_pool(x, rois, None, 7, 1.0, 4), [image]),
        output_and_gradients(lambda x: roi_align(x, rois, 7, 1.0, 4, "avg", True), [image]),
    )


def test_of_equal_samples_on_a_border_the_first_gets_the_gradient():
    features = torch.ones(1, 4, 4, 5, requires_grad=True)
    BorderAlign(3)(features, torch.tensor([[[1.0, 1, 4, 3]]])).sum().backward()
    corners = [side.nonzero().tolist() for side in features.grad[0]]
    assert corners == [[[1, 1]], [[1, 1]], [[3, 4]], [[3, 4]]]


def test_offset_of_a_tap_exactly_one_cell_before_the_map_gets_no_gradient(output_and_gradients):
    """As in mmcv's kernels; DCN layers start from zero offsets and padding 1."""
    image, weight = torch.rand(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
    offset, mask = torch.zeros(1, 18, 4, 4), torch.ones(1, 9, 4, 4)
    _, plain = output_and_gradients(lambda o: deform_conv2d(image, o, weight, 1, 1), [offset])
    _, modulated = output_and_gradients(
        lambda o: modulated_deform_conv2d(image, o, mask, weight, None, 1, 1), [offset]
    )
    by_tap = plain.view(3, 3, 2, 4, 4)
    assert not by_tap[0, :, :, 0].any()  # the upper taps of the first row are at y = -1
    assert not by_tap[:, 0, :, :, 0].any()  # the left taps of the first column are at x = -1
    assert by_tap[0, 1, :, 1:].all()
    torch.testing.assert_close(plain, modulated)


def test_taps_whose_offset_is_not_a_number_lie_outside(output_and_gradients):
    """As in mmcv's kernels; torchvision's would read memory that is not theirs."""
    image, mask, weight = torch.rand(2, 1, 4, 4), torch.rand(2, 9, 4, 4), torch.rand(1, 1, 3, 3)
    offset = torch.rand(2, 18, 4, 4)
    found, expected = (
        output_and_gradients(
            lambda *o: modulated_deform_conv2d(*o, None, 1, 1),
            # rows and columns of one tap, rows of the next
            [image, offset.index_fill(1, torch.arange(4, 7), value), mask, weight],
        )
        for value in (torch.nan, 1e4)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_location_exactly_one_cell_before_the_map_gets_no_gradient(output_and_gradients):
    """As in mmcv's kernels; Deformable DETR's layers start from offsets of whole cells."""
    locations = torch.full((1, 3, 2, 2, 4, 2), 0.4)
    locations[:, 0, :, 0, :, 0] = -1 / 6  # x = -1 / 6 * 3 - 0.5 = -1
    locations[:, 1, :, 1, :, 1] = -0.5  # y = -0.5 * 1 - 0.5 = -1
    operands = (torch.rand(1, 8, 2, 3), locations, torch.rand(1, 3, 2, 2, 4))
    _, _, gradient, _ = output_and_gradients(attend, operands)
    assert not gradient[:, 0, :, 0].any()
    assert not gradient[:, 1, :, 1].any()
    assert gradient[:, 2, :, 0].all()


def test_the_naive_form_of_carafe_is_the_same_op(device):
    operands = [torch.rand(2, 4, 3, 4, device=device), torch.rand(2, 18, 6, 8, device=device)]
    assert torch.equal(carafe_naive(*operands, 3, 2, 2), carafe(*operands, 3, 2, 2))


def test_focal_losses_of_extreme_logits_are_finite_and_those_of_mmcv(output_and_gradients):
    """mmcv takes no logarithm of less than float32's smallest normal number."""
    logits, target = torch.tensor([[-200.0, 200.0, float("-inf"), 200.0]]), torch.tensor([0])
    logits.requires_grad_()
    loss = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "none")
    loss.sum().backward()
    largest = 87.336544
    torch.testing.assert_close(
        loss, torch.tensor([[0.25 * largest, 0.75 * largest, 0.0, 0.75 * largest]])
    )
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.75, 0.0, 0.75]]))
    for gamma in (0.0, 0.5, 2.0):
        certain = torch.tensor([[500.0, 0.0, 0.0, 0.0]])
        for tensor in output_and_gradients(
            lambda x, g=gamma: softmax_focal_loss(x, target, g), [certain]
        ):
            assert not tensor.any()


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_targets_above_background_are_refused(loss):
    with pytest.raises(ValueError, match="below 4, or 4 for background; the largest is 5"):
        loss(torch.rand(2, 4), torch.tensor([0, 5]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "kernel_size, padding", [(3, 1), ((3, 1), (1, 0)), (1, 0), ((2, 3), (0, 2)), (5, 1)]
)
def test_masked_conv_equals_the_whole_where_the_mask_is_set(kernel_size, padding, dtype, device):
    layer = MaskedConv2d(3, 4, kernel_size, padding=padding).to(device, dtype)
    image = torch.rand(1, 3, 5, 6).to(device, dtype)
    whole = layer(image)
    height, width = min(5, whole.shape[2]), min(6, whole.shape[3])
    mask = torch.zeros(1, 5, 6, device=device)
    mask[:, :height, :width] = (torch.rand(height, width) - 0.5).clamp(min=0)
    expected = torch.zeros_like(whole)
    expected[..., :height, :width] = whole[..., :height, :width] * (mask > 0)[:, :height, :width]
    assert expected.any()
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(layer(image, mask), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("row, column", [(3, 0), (0, 4)])
def test_a_mask_beyond_the_output_is_an_error(row, column):
    """mmcv's kernel writes into other memory there."""
    mask = torch.zeros(1, 5, 6)
    mask[:, row, column] = 1
    with pytest.raises(ValueError, match=f"3 x 4 cells.* row {row} and column {column}"):
        MaskedConv2d(3, 4, 3)(torch.rand(1, 3, 5, 6), mask)
