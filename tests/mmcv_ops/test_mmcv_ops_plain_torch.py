"""mmcv's layers that are plain torch work as they are; nothing has to be served for them."""

import importlib

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import CornerPool, CrissCrossAttention, SimpleRoIAlign  # noqa: E402


@pytest.mark.parametrize("file", ["corner_pool", "cc_attention", "point_sample"])
def test_mmcv_asks_for_no_compiled_op(file):
    assert not hasattr(importlib.import_module(f"mmcv.ops.{file}"), "ext_module")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("right", [[1, 5, 5], [2, 2, 3]]),
        ("left", [[5, 5, 4], [3, 3, 3]]),
        ("bottom", [[1, 5, 4], [2, 5, 4]]),
        ("top", [[2, 5, 4], [2, 0, 3]]),
    ],
)
def test_corner_pool_is_a_running_maximum(mode, expected):
    image = torch.tensor([[[[1.0, 5, 4], [2, 0, 3]]]], requires_grad=True)
    pooled = CornerPool(mode)(image)
    assert pooled[0, 0].tolist() == expected
    pooled.sum().backward()
    assert image.grad.sum() == image.numel()


def test_criss_cross_attention_sees_its_row_and_its_column_only():
    layer = CrissCrossAttention(8)
    torch.nn.init.ones_(layer.gamma.scale)
    image = torch.rand(1, 8, 3, 4, requires_grad=True)
    layer(image)[0, :, 1, 2].sum().backward()
    seen = image.grad[0].abs().sum(0) > 0
    expected = torch.zeros(3, 4, dtype=torch.bool)
    expected[1, :] = expected[:, 2] = True
    assert torch.equal(seen, expected)


def test_simple_roi_align_reads_the_cells_of_a_whole_map():
    image = torch.rand(1, 2, 3, 4, requires_grad=True)
    pooled = SimpleRoIAlign((3, 4), 1.0)(image, torch.tensor([[0, 0.0, 0, 4, 3]]))
    torch.testing.assert_close(pooled, image)
    pooled.sum().backward()
    assert image.grad.all()
