"""BorderAlign against a loop over boxes, sides and samples."""

import pytest
import torch
import torch.nn.functional as F

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import BorderAlign  # noqa: E402

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# Inside, over the border, wholly outside, without extent, turned inside out.
BOXES = [
    [0.3, 1.1, 3.7, 3.2],
    [-2.5, -0.5, 8.0, 4.5],
    [20.0, 20.0, 30.0, 25.0],
    [2.0, 2.0, 2.0, 2.0],
    [4.0, 3.0, 1.0, 0.5],
]


def random_features(dtype=torch.float64):
    """Features whose values are far enough apart that rounding changes no maximum."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 4 * 3, 5, 6, generator=generator, dtype=torch.float64).to(dtype)


def boxes_of_two_images(dtype=torch.float64):
    boxes = torch.tensor(BOXES, dtype=dtype)
    return torch.stack((boxes, boxes + 0.25))


def sample(image, y, x):
    """Bilinear value (C,) at (y, x), clamped within one cell around the map, 0 farther out."""
    height, width = image.shape[-2:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(len(image))
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    weights_y = (1 - (torch.arange(height).to(image) - y).abs()).clamp(min=0)
    weights_x = (1 - (torch.arange(width).to(image) - x).abs()).clamp(min=0)
    return torch.einsum("chw,h,w->c", image, weights_y, weights_x)


def plain(features, boxes, pool_size):
    channels = features.shape[1] // 4
    values = []
    for image, boxes_there in zip(features, boxes.tolist(), strict=True):
        for x1, y1, x2, y2 in boxes_there:
            borders = [  # top, left, bottom, right
                ((x1, y1), (x2, y1)),
                ((x1, y1), (x1, y2)),
                ((x2, y2), (x1, y2)),
                ((x2, y2), (x2, y1)),
            ]
            for side, (start, end) in enumerate(borders):
                own_channels = image[side * channels : (side + 1) * channels]
                samples = []
                for number in range(pool_size + 1):
                    part = number / pool_size
                    x, y = (a + part * (b - a) for a, b in zip(start, end, strict=True))
                    samples.append(sample(own_channels, y, x))
                values.append(torch.stack(samples).max(dim=0).values)
    return torch.stack(values).view(len(features), len(BOXES), 4, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool_size", [1, 5])
def test_equals_the_plain_loop(dtype, pool_size, assert_equal_with_gradients):
    boxes = boxes_of_two_images(dtype)
    assert_equal_with_gradients(
        lambda x: BorderAlign(pool_size)(x, boxes.to(x.device)),
        lambda x: plain(x, boxes.double(), pool_size),
        [random_features(dtype)],
    )


def test_gradients_pass_gradcheck():
    features, boxes = random_features().requires_grad_(), boxes_of_two_images()
    assert torch.autograd.gradcheck(lambda x: BorderAlign(4)(x, boxes), features)


def test_sides_read_their_own_channels_and_go_their_own_way():
    """A map that grows to the right: the maximum of top and bottom is at the right corner."""
    ramp = torch.arange(6.0).expand(5, 6)
    features = torch.stack((ramp, ramp + 10, ramp + 20, ramp + 30))[None]
    pooled = BorderAlign(3)(features, torch.tensor([[[1.0, 1, 4, 3]]]))
    assert pooled.flatten().tolist() == [4, 11, 24, 34]


def test_of_equal_samples_the_first_gets_the_gradient():
    features = torch.ones(1, 4, 4, 5, requires_grad=True)
    BorderAlign(3)(features, torch.tensor([[[1.0, 1, 4, 3]]])).sum().backward()
    corners = [side.nonzero().tolist() for side in features.grad[0]]
    assert corners == [[[1, 1]], [[1, 1]], [[3, 4]], [[3, 4]]]


def test_no_boxes():
    features = random_features().requires_grad_()
    pooled = BorderAlign(3)(features, torch.zeros(2, 0, 4, dtype=torch.float64))
    assert pooled.shape == (2, 3, 0, 4)
    pooled.sum().backward()
    assert not features.grad.any()


def test_mmcv_refuses_channels_that_four_sides_cannot_share():
    with pytest.raises(AssertionError, match="divisible by factor 4"):
        BorderAlign(3)(F.pad(random_features(), (0, 0, 0, 0, 0, 1)), boxes_of_two_images())
