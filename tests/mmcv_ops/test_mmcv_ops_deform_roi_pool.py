"""Deformable RoI pooling against loops over RoIs, bins and samples."""

import math
from itertools import product

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import (  # noqa: E402
    DeformRoIPoolPack,
    ModulatedDeformRoIPoolPack,
    deform_roi_pool,
    roi_align,
)

from xcit_dense.mmcv_ops import roi  # noqa: E402

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SIZE = (2, 3)  # height and width of the pooled maps
SCALE, GAMMA = 0.5, 0.3
# Inside, over the border, smaller than a cell, wholly outside, without extent.
ROIS = [
    [0, 1.3, 2.1, 9.7, 8.2],
    [1, -4.0, -3.0, 5.5, 13.0],
    [1, 3.0, 4.0, 3.4, 4.3],
    [0, 40.0, 40.0, 50.0, 60.0],
    [0, 2.0, 2.0, 2.0, 2.0],
]


def random_operands(dtype=torch.float64):
    """Features and offsets."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    offset = torch.randn(len(ROIS), 2, *SIZE, generator=generator, dtype=torch.float64)
    return features.to(dtype), offset.to(dtype)


def sample(image, y, x):
    """Bilinear value (C,) at (y, x), clamped within one cell around the map, 0 farther out."""
    height, width = image.shape[-2:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(image.shape[0])
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    value = image.new_zeros(image.shape[0])
    for row in {int(y.floor()), min(int(y.floor()) + 1, height - 1)}:
        for column in {int(x.floor()), min(int(x.floor()) + 1, width - 1)}:
            near = (1 - (y - row).abs()) * (1 - (x - column).abs())
            value = value + image[:, row, column] * near
    return value


def plain(features, offset, sampling_ratio):
    pooled = []
    for roi, (index, *corners) in enumerate(ROIS):
        x1, y1, x2, y2 = (corner * SCALE - 0.5 for corner in corners)
        step_y, step_x = (y2 - y1) / SIZE[0], (x2 - x1) / SIZE[1]
        count_y, count_x = (sampling_ratio or math.ceil(step) for step in (step_y, step_x))
        for i, j in product(*map(range, SIZE)):
            moved_x, moved_y = GAMMA * offset[roi, :, i, j] * offset.new_tensor([x2 - x1, y2 - y1])
            total = features.new_zeros(features.shape[1])
            for a, b in product(range(count_y), range(count_x)):
                y = y1 + moved_y + (i + (a + 0.5) / count_y) * step_y
                x = x1 + moved_x + (j + (b + 0.5) / count_x) * step_x
                total = total + sample(features[index], y, x)
            pooled.append(total / max(count_y * count_x, 1))
    return torch.stack(pooled).view(len(ROIS), *SIZE, -1).permute(0, 3, 1, 2)


def served(features, offset, sampling_ratio):
    rois = torch.tensor(ROIS, dtype=torch.float64, device=features.device)
    return deform_roi_pool(features, rois, offset, SIZE, SCALE, sampling_ratio, GAMMA)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_plain_loops(dtype, sampling_ratio, assert_equal_with_gradients):
    assert_equal_with_gradients(
        lambda *operands: served(*operands, sampling_ratio),
        lambda *operands: plain(*operands, sampling_ratio),
        random_operands(dtype),
    )


def test_gradients_pass_gradcheck():
    operands = [operand.requires_grad_() for operand in random_operands()]
    assert torch.autograd.gradcheck(lambda *o: served(*o, 2), operands)


@pytest.mark.parametrize("sampling_ratio", [0, 3])
def test_without_offsets_it_is_roi_align(sampling_ratio, output_and_gradients, device):
    features = random_operands()[0].to(device)
    rois = torch.tensor(ROIS, dtype=torch.float64, device=device)
    torch.testing.assert_close(
        output_and_gradients(
            lambda x: deform_roi_pool(x, rois, None, SIZE, SCALE, sampling_ratio), [features]
        ),
        output_and_gradients(
            lambda x: roi_align(x, rois, SIZE, SCALE, sampling_ratio, "avg", True), [features]
        ),
    )


def test_rois_taken_in_portions_give_the_same(monkeypatch, output_and_gradients):
    operands = random_operands()
    at_once = output_and_gradients(lambda *o: served(*o, 2), operands)
    monkeypatch.setattr(roi, "_SAMPLES_AT_ONCE", 50)  # 24 positions a RoI
    in_portions = output_and_gradients(lambda *o: served(*o, 2), operands)
    torch.testing.assert_close(in_portions, at_once)


@pytest.mark.parametrize("batch", [0, 2])
def test_no_rois(batch, device):
    features = torch.rand(batch, 3, 5, 6, device=device, requires_grad=True)
    offset = torch.rand(0, 2, *SIZE, device=device, requires_grad=True)
    output = deform_roi_pool(features, torch.zeros(0, 5, device=device), offset, SIZE)
    assert output.shape == (0, 3, *SIZE)
    output.sum().backward()
    assert not features.grad.any()


def test_rois_without_a_sample_get_zeros_and_give_no_gradient():
    features = torch.rand(1, 3, 5, 6, requires_grad=True)
    offset = torch.rand(1, 2, *SIZE, requires_grad=True)
    output = deform_roi_pool(features, torch.tensor([[0, 2.0, 2, 2, 2]]), offset, SIZE)
    output.sum().backward()
    assert not output.any()
    assert not features.grad.any()
    assert not offset.grad.any()


@pytest.mark.parametrize("layer_type", [DeformRoIPoolPack, ModulatedDeformRoIPoolPack])
def test_layers_train(layer_type, device):
    layer = layer_type(SIZE, output_channels=3, deform_fc_channels=4, spatial_scale=SCALE)
    layer = layer.to(device)
    features = torch.rand(2, 3, 5, 6, device=device, requires_grad=True)
    output = layer(features, torch.tensor(ROIS, device=device))
    assert output.shape == (len(ROIS), 3, *SIZE)
    output.square().sum().backward()
    assert features.grad.any()
    assert layer.offset_fc[-1].weight.grad.any()
