"""Focal losses against the formula written with autograd."""

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss  # noqa: E402

DTYPES = [torch.float32, torch.float64]
LOW_DTYPES = [torch.float16, torch.bfloat16]
CLASSES = 4
TARGETS = torch.tensor([0, 3, 1, CLASSES, 2, CLASSES, 0])  # CLASSES is background


def random_logits(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(TARGETS), CLASSES, generator=generator, dtype=torch.float64)
    return (3 * logits).to(dtype)


def row_weights(weight):
    if weight is None:
        return [1.0] * len(TARGETS)
    return [1.0 if target == CLASSES else weight[target].item() for target in TARGETS.tolist()]


def plain_sigmoid_loss(logits, gamma, alpha, weight):
    rows = []
    for row, target, factor in zip(logits, TARGETS.tolist(), row_weights(weight), strict=True):
        for number, logit in enumerate(row):
            p = 1 / (1 + torch.exp(-logit))
            if number == target:
                rows.append(-factor * alpha * (1 - p) ** gamma * torch.log(p))
            else:
                rows.append(-factor * (1 - alpha) * p**gamma * torch.log(1 - p))
    return torch.stack(rows).view_as(logits)


def plain_softmax_loss(logits, gamma, alpha, weight):
    rows = []
    for row, target, factor in zip(logits, TARGETS.tolist(), row_weights(weight), strict=True):
        if target == CLASSES:
            rows.append(0 * row.sum())
        else:
            p = torch.exp(row[target]) / torch.exp(row).sum()
            rows.append(-factor * alpha * (1 - p) ** gamma * torch.log(p))
    return torch.stack(rows)


PAIRS = [(sigmoid_focal_loss, plain_sigmoid_loss), (softmax_focal_loss, plain_softmax_loss)]


def loss_and_gradient(function, logits):
    logits = logits.detach().requires_grad_()
    loss = function(logits)
    loss.sum().backward()
    return loss.detach().cpu(), logits.grad.cpu()


def served_loss_and_gradient(served, logits, *settings):
    """Unreduced loss; gradient of the sum, as mmcv cannot differentiate softmax unreduced."""
    loss = served(logits, *settings, "none").cpu()
    _, gradient = loss_and_gradient(lambda x: served(x, *settings, "sum"), logits)
    return loss, gradient


@pytest.mark.parametrize("served, plain", PAIRS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.5, 0.6), (0.0, 0.5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradient_equal_the_formula(served, plain, dtype, gamma, alpha, weighted, device):
    weight = torch.tensor([0.5, 2.0, 1.5, 3.0], dtype=dtype) if weighted else None
    targets, logits = TARGETS.to(device), random_logits(dtype)
    weight_there = weight.to(device) if weighted else None
    settings = (targets, gamma, alpha, weight_there)
    actual = served_loss_and_gradient(served, logits.to(device), *settings)
    expected = loss_and_gradient(lambda x: plain(x, gamma, alpha, weight), logits.double())
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other.to(dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("served, plain", PAIRS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reductions(served, plain, reduction):
    rows = plain(random_logits(), 2.0, 0.25, None).sum()
    expected = rows / len(TARGETS) if reduction == "mean" else rows
    actual = served(random_logits(), TARGETS, 2.0, 0.25, None, reduction)
    torch.testing.assert_close(actual, expected)


def test_sigmoid_loss_passes_gradcheck():
    logits = random_logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, TARGETS), logits)


@pytest.mark.parametrize("served, _", PAIRS)
@pytest.mark.parametrize("dtype", LOW_DTYPES)
def test_low_precision_is_near_float32(served, _, dtype, device):
    logits, targets = random_logits(dtype).to(device), TARGETS.to(device)
    settings = (targets, 2.0, 0.25, None)
    actual = served_loss_and_gradient(served, logits, *settings)
    expected = served_loss_and_gradient(served, logits.float(), *settings)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.float(), other, rtol=5e-2, atol=2e-2)


def test_extreme_logits_stay_finite_and_agree_with_mmcv():
    """mmcv takes no logarithm of less than float32's smallest normal number."""
    logits = torch.tensor([[-200.0, 200.0, float("-inf"), 200.0]])
    loss, gradient = loss_and_gradient(
        lambda x: sigmoid_focal_loss(x, torch.tensor([0]), 2.0, 0.25, None, "none"), logits
    )
    largest = 87.336544
    expected = torch.tensor([[0.25 * largest, 0.75 * largest, 0.0, 0.75 * largest]])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, torch.tensor([[-0.25, 0.75, 0.0, 0.75]]))


def test_softmax_loss_of_a_certain_row_has_finite_gradient():
    logits = torch.tensor([[500.0, 0.0, 0.0, 0.0]])
    for gamma in (0.0, 0.5, 2.0):
        loss, gradient = loss_and_gradient(
            lambda x, g=gamma: softmax_focal_loss(x, torch.tensor([0]), g, 0.25), logits
        )
        assert loss == 0
        assert not gradient.any()


@pytest.mark.parametrize("served, _", PAIRS)
def test_no_rows(served, _):
    logits = torch.zeros(0, CLASSES, requires_grad=True)
    loss = served(logits, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, "sum")
    loss.backward()
    assert loss == 0
    assert logits.grad.shape == (0, CLASSES)


@pytest.mark.parametrize("served, _", PAIRS)
def test_targets_above_background_are_refused(served, _):
    with pytest.raises(ValueError, match=r"below 4, or 4 for background; the largest is 5"):
        served(random_logits(), TARGETS + 1)
