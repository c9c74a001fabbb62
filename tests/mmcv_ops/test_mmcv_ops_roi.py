"""roi_align and RoIPool against loops over bins and samples, differentiated by autograd."""

import math

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import RoIPool, roi_align, roi_pool  # noqa: E402

DTYPES = [torch.float32, torch.float64]
LOW_DTYPES = [torch.float16, torch.bfloat16]
SIZE = (2, 3)  # height and width of the pooled maps

# Inside, over the border, smaller than a cell, wholly outside, without extent.
ROIS = [
    [0, 1.3, 2.1, 9.7, 8.2],
    [1, -4.0, -3.0, 5.5, 20.0],
    [1, 3.0, 4.0, 3.4, 4.3],
    [0, 40.0, 40.0, 50.0, 60.0],
    [0, 2.0, 2.0, 2.0, 2.0],
]


def random_features(dtype=torch.float64, shape=(2, 3, 5, 6)):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def sample(image, y, x):
    """Bilinear value (C,) at (y, x), clamped within one cell around the map, 0 farther out."""
    height, width = image.shape[-2:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(image.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    value = image.new_zeros(image.shape[0])
    for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
            value = value + image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def plain_roi_align(features, rois, scale, sampling_ratio, aligned, pool_mode="avg"):
    pooled = []
    for index, *corners in rois.tolist():
        shift = 0.5 if aligned else 0.0
        x1, y1, x2, y2 = (corner * scale - shift for corner in corners)
        least = 0.0 if aligned else 1.0
        step_y, step_x = max(y2 - y1, least) / SIZE[0], max(x2 - x1, least) / SIZE[1]
        count_y = sampling_ratio or math.ceil(step_y)
        count_x = sampling_ratio or math.ceil(step_x)
        for bin_y in range(SIZE[0]):
            for bin_x in range(SIZE[1]):
                samples = [features.new_zeros(0, features.shape[1])]
                for i in range(count_y):
                    for j in range(count_x):
                        y = y1 + (bin_y + (i + 0.5) / count_y) * step_y
                        x = x1 + (bin_x + (j + 0.5) / count_x) * step_x
                        samples.append(sample(features[int(index)], y, x)[None])
                samples = torch.cat(samples)
                if len(samples) == 0:
                    pooled.append(features.new_zeros(features.shape[1]))
                else:
                    pooled.append(samples.mean(0) if pool_mode == "avg" else samples.max(0).values)
    return torch.stack(pooled).view(len(rois), *SIZE, -1).permute(0, 3, 1, 2)


def plain_roi_pool(features, rois, scale):
    height, width = features.shape[-2:]

    def bounds(start, last, index, bins, size):
        begin = start * scale
        step = ((last + 1) * scale - begin) / bins
        clip = [math.floor(begin + index * step), math.ceil(begin + (index + 1) * step)]
        return [min(max(bound, 0), size) for bound in clip]

    pooled = []
    for index, x1, y1, x2, y2 in rois.tolist():
        for bin_y in range(SIZE[0]):
            for bin_x in range(SIZE[1]):
                top, bottom = bounds(y1, y2, bin_y, SIZE[0], height)
                left, right = bounds(x1, x2, bin_x, SIZE[1], width)
                cells = features[int(index), :, top:bottom, left:right].flatten(1)
                has_cells = cells.shape[1] > 0 and x2 + 1 > x1 and y2 + 1 > y1
                pooled.append(cells.amax(1) if has_cells else features.new_zeros(cells.shape[0]))
    return torch.stack(pooled).view(len(rois), *SIZE, -1).permute(0, 3, 1, 2)


def roi_align_max(features, rois, size, scale=1.0):
    return roi_align(features, rois, size, scale, 0, "max", True)


def pooled_and_gradient(function, features):
    """Output of `function`, and the gradient of a weighted sum of it."""
    features = features.detach().requires_grad_()
    output = function(features)
    weights = torch.linspace(-1, 2, output.numel()).to(output).view(output.shape)
    (output * weights).sum().backward()
    return output.detach().cpu(), features.grad.cpu()


def assert_equal_with_gradient(served, plain, features, device):
    output, gradient = pooled_and_gradient(served, features.to(device))
    expected, expected_gradient = pooled_and_gradient(plain, features)
    assert output.dtype == features.dtype
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("pool_mode", ["avg", "max"])
def test_roi_align_equals_the_plain_loops(dtype, aligned, sampling_ratio, pool_mode, device):
    rois = torch.tensor(ROIS, dtype=dtype)
    assert_equal_with_gradient(
        lambda x: roi_align(x, rois.to(device), SIZE, 0.5, sampling_ratio, pool_mode, aligned),
        lambda x: plain_roi_align(x, rois, 0.5, sampling_ratio, aligned, pool_mode),
        random_features(dtype),
        device,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
def test_roi_pool_equals_the_plain_loops(dtype, scale, device):
    rois = torch.tensor([*ROIS, [1, 8.0, 8.0, 3.0, 9.0]], dtype=dtype)
    assert_equal_with_gradient(
        lambda x: RoIPool(SIZE, scale)(x, rois.to(device)),
        lambda x: plain_roi_pool(x, rois, scale),
        random_features(dtype),
        device,
    )


FUNCTIONS = [roi_align, roi_align_max, roi_pool]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_pass_gradcheck(function):
    features = random_features(shape=(1, 2, 4, 4)).requires_grad_()
    rois = torch.tensor([[0, 0.2, 0.7, 3.1, 2.9], [0, 1.0, 1.0, 6.0, 5.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: function(x, rois, SIZE, 0.8), features)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rois_may_have_another_dtype(function, device):
    features = random_features(torch.float64).to(device)
    rois = torch.tensor(ROIS, device=device)
    expected = pooled_and_gradient(lambda x: function(x, rois.double(), SIZE, 0.5), features)
    for rois_of_dtype in (rois, rois.double()):
        actual = pooled_and_gradient(lambda x, r=rois_of_dtype: function(x, r, SIZE, 0.5), features)
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", LOW_DTYPES)
def test_low_precision_equals_float32_rounded(function, dtype, device):
    features = random_features(dtype).to(device)
    rois = torch.tensor(ROIS, device=device)
    output, gradient = pooled_and_gradient(lambda x: function(x, rois, SIZE, 0.5), features)
    expected, expected_gradient = pooled_and_gradient(
        lambda x: function(x, rois, SIZE, 0.5), features.float()
    )
    assert output.dtype == gradient.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype))
    torch.testing.assert_close(gradient, expected_gradient.to(dtype), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_channels_last_changes_nothing(function, device):
    features = random_features(torch.float32).to(device)
    rois = torch.tensor(ROIS, device=device)
    rois_apart = torch.stack((rois, rois), dim=-1)[..., 0]
    expected = pooled_and_gradient(lambda x: function(x, rois, SIZE, 0.5), features)
    actual = pooled_and_gradient(
        lambda x: function(x, rois_apart, SIZE, 0.5).contiguous(memory_format=torch.channels_last),
        features.to(memory_format=torch.channels_last),
    )
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("batch", [0, 2])
def test_no_rois(function, batch, device):
    features = torch.rand(batch, 3, 5, 6, device=device, requires_grad=True)
    output = function(features, torch.zeros(0, 5, device=device), SIZE, 0.5)
    assert output.shape == (0, 3, *SIZE)
    output.sum().backward()
    assert features.grad.shape == features.shape
    assert not features.grad.any()
