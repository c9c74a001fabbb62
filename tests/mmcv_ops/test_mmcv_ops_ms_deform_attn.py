"""Multi-scale deformable attention against loops over images, queries, heads, levels and points."""

from itertools import product

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import MultiScaleDeformableAttention  # noqa: E402
from mmcv.ops.multi_scale_deform_attn import (  # noqa: E402
    MultiScaleDeformableAttnFunction,
    ext_module,
    multi_scale_deformable_attn_pytorch,
)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SIZES = [(3, 4), (2, 2), (1, 5)]  # height and width of each level
BATCH, QUERIES, HEADS, CHANNELS, POINTS = 2, 3, 2, 3, 2


def random_operands(dtype=torch.float64):
    """Value, locations (some of them beyond the map) and weights."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    cells = sum(height * width for height, width in SIZES)
    samples = (BATCH, QUERIES, HEADS, len(SIZES), POINTS)
    value, weights = rand(BATCH, cells, HEADS, CHANNELS), rand(*samples)
    return value.to(dtype), (rand(*samples, 2) * 1.8 - 0.4).to(dtype), weights.to(dtype)


def level_tensors(device):
    shapes = torch.tensor(SIZES, device=device)
    ends = shapes.prod(dim=1).cumsum(0)
    return shapes, torch.cat((ends.new_zeros(1), ends[:-1]))


def served(value, locations, weights):
    """The function that mmcv's layer calls for tensors on a GPU."""
    shapes, starts = level_tensors(value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


def sample(level_map, y, x):
    """Value (D,) of a map (H, W, D) at cell (y, x); zeros around the map."""
    height, width = level_map.shape[:2]
    total = torch.zeros_like(level_map[0, 0])
    below, right = y - y.floor(), x - x.floor()
    for i, j in product((0, 1), repeat=2):
        row, column = int(y.floor()) + i, int(x.floor()) + j
        if 0 <= row < height and 0 <= column < width:
            near = (below if i else 1 - below) * (right if j else 1 - right)
            total = total + level_map[row, column] * near
    return total


def plain(value, locations, weights):
    images = []
    for b, q, m in product(range(BATCH), range(QUERIES), range(HEADS)):
        total, start = torch.zeros_like(value[0, 0, 0]), 0
        for level, (height, width) in enumerate(SIZES):
            cells = value[b, start : start + height * width, m]
            level_map = cells.view(height, width, CHANNELS)
            for p in range(POINTS):
                x, y = locations[b, q, m, level, p]
                value_there = sample(level_map, y * height - 0.5, x * width - 0.5)
                total = total + weights[b, q, m, level, p] * value_there
            start += height * width
        images.append(total)
    return torch.stack(images).view(BATCH, QUERIES, HEADS * CHANNELS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_plain_loops(dtype, assert_equal_with_gradients):
    assert_equal_with_gradients(served, plain, random_operands(dtype))


def test_gradients_pass_gradcheck():
    assert torch.autograd.gradcheck(served, [o.requires_grad_() for o in random_operands()])


def test_equals_the_form_that_mmcv_takes_on_a_cpu(output_and_gradients, device):
    operands = [operand.to(device) for operand in random_operands()]
    shapes, _ = level_tensors(device)
    torch.testing.assert_close(
        output_and_gradients(served, operands),
        output_and_gradients(
            lambda v, points, w: multi_scale_deformable_attn_pytorch(v, shapes, points, w), operands
        ),
    )


def test_location_exactly_one_cell_before_the_map_gets_no_gradient(output_and_gradients):
    """As in mmcv's kernels; the layer starts from offsets of whole cells."""
    value, _, weights = random_operands()
    locations = torch.full((BATCH, QUERIES, HEADS, len(SIZES), POINTS, 2), 0.5).double()
    locations[:, 0, :, 0, :, 0] = -0.125  # x = -0.125 * 4 - 0.5 = -1
    locations[:, 1, :, 1, :, 1] = -0.25  # y = -0.25 * 2 - 0.5 = -1
    _, _, gradient, _ = output_and_gradients(served, (value, locations, weights))
    assert not gradient[:, 0, :, 0].any()
    assert not gradient[:, 1, :, 1].any()
    assert gradient[:, 2, :, 0].all()


def test_levels_are_found_by_their_start_index():
    value, locations, weights = random_operands()
    shapes, starts = level_tensors("cpu")
    gap = torch.full((BATCH, 1, HEADS, CHANNELS), torch.nan, dtype=value.dtype)
    with_gaps = torch.cat((value[:, :12], gap, value[:, 12:]), dim=1)
    starts_after_gap = starts + torch.tensor([0, 1, 1])
    apart = MultiScaleDeformableAttnFunction.apply(
        with_gaps, shapes, starts_after_gap, locations, weights, 64
    )
    assert torch.equal(apart, served(value, locations, weights))


def test_under_autocast_locations_may_have_another_dtype(device):
    value, locations, weights = (operand.to(device) for operand in random_operands(torch.float32))
    mixed = served(value.half(), locations, weights)
    assert mixed.dtype == torch.float16
    torch.testing.assert_close(
        mixed.float(), served(value, locations, weights), rtol=1e-2, atol=1e-2
    )


def test_no_queries(output_and_gradients):
    value, locations, weights = random_operands()
    output, *gradients = output_and_gradients(served, (value, locations[:, :0], weights[:, :0]))
    assert output.shape == (BATCH, 0, HEADS * CHANNELS)
    assert not gradients[0].any()


def test_the_layer_needs_no_compiled_op_on_a_cpu(monkeypatch):
    for name in ("ms_deform_attn_forward", "ms_deform_attn_backward"):
        monkeypatch.setattr(ext_module, name, None)
    layer = MultiScaleDeformableAttention(8, num_heads=2, num_levels=len(SIZES), batch_first=True)
    shapes, starts = level_tensors("cpu")
    value = torch.rand(1, int(shapes.prod(dim=1).sum()), 8)
    points = torch.rand(1, 3, len(SIZES), 2)
    query = torch.rand(1, 3, 8, requires_grad=True)
    levels = dict(spatial_shapes=shapes, level_start_index=starts)
    output = layer(query, value=value, reference_points=points, **levels)
    output.sum().backward()
    assert output.shape == (1, 3, 8)
    assert query.grad.any()
