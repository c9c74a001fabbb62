"""nms, nms_match, soft_nms and bbox_overlaps against loops over plain numbers."""

import plain_ops as plain
import pytest
import torch

pytest.importorskip("mmcv", reason="the ops are those of mmcv")

from mmcv.ops import bbox_overlaps, nms, nms_match, soft_nms

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def random_boxes(count, dtype=torch.float32, seed=0):
    """Boxes and scores; the scores differ in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    size = torch.rand(count, 2, generator=generator) * 40 + 1
    scores = torch.randperm(count, generator=generator) / 128
    return torch.cat((corner, corner + size), dim=1).to(dtype), scores.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_nms(dtype, offset, threshold, device):
    boxes, scores = random_boxes(80, dtype)
    groups = plain.nms_match(boxes.tolist(), scores.tolist(), threshold, offset)
    expected = [group[0] for group in groups]
    assert 1 < len(expected) < 80
    dets, kept = nms(boxes.to(device), scores.to(device), threshold, offset=offset)
    assert kept.tolist() == expected
    assert torch.equal(dets.cpu(), torch.cat((boxes, scores[:, None]), 1)[expected])


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("min_score", [0.0, 0.05])
def test_soft_nms(dtype, method, offset, min_score, device):
    boxes, scores = random_boxes(40, dtype)
    settings = dict(sigma=0.4, min_score=min_score, method=method, offset=offset)
    taken = plain.soft_nms(boxes.tolist(), scores.tolist(), 0.3, **settings)
    # Boxes that the naive method set to 0 tie, and ties have no order.
    firm = [index for index, score in taken if score > 0]
    dets, inds = soft_nms(boxes.to(device), scores.to(device), 0.3, **settings)
    assert inds[: len(firm)].tolist() == firm
    assert sorted(inds.tolist()) == sorted(index for index, _ in taken)
    torch.testing.assert_close(dets[:, :4].cpu(), boxes[inds.cpu()])
    expected = torch.tensor([score for _, score in taken], dtype=dtype)
    torch.testing.assert_close(dets[:, 4].cpu(), expected)


def test_soft_nms_takes_a_lone_box_whatever_its_score():
    dets, inds = soft_nms(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([1e-6]), min_score=0.1)
    assert inds.tolist() == [0]
    assert dets[0, 4] == pytest.approx(1e-6)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_survives_boxes_without_area(method):
    boxes = torch.tensor([[4.0, 3, 5, 3], [4, 3, 5, 4], [3, 1, 3, 1], [3, 1, 3, 1], [3, 1, 3, 1]])
    scores = torch.tensor([0.9, 0.9, 0.5, 0.4, 0.0])
    dets, inds = soft_nms(boxes, scores, 0.6, sigma=0.5, method=method)
    assert sorted(inds.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(dets[:, 4], scores[inds])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("offset", [0, 1])
def test_bbox_overlaps(dtype, mode, offset, device):
    first, second = random_boxes(7, dtype, seed=1)[0], random_boxes(7, dtype, seed=2)[0]
    expected = torch.tensor(
        [[plain.overlap(a, b, offset, mode) for b in second.tolist()] for a in first.tolist()]
    ).to(dtype)
    assert expected.count_nonzero() > 5
    first, second = first.to(device), second.to(device)
    together = bbox_overlaps(first, second[:5], mode=mode, offset=offset)
    row_by_row = bbox_overlaps(first, second, mode=mode, offset=offset, aligned=True)
    torch.testing.assert_close(together.cpu(), expected[:, :5])
    torch.testing.assert_close(row_by_row.cpu(), expected.diagonal())


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_nms_match(dtype, threshold, device):
    boxes, scores = random_boxes(40, dtype)
    dets = torch.cat((boxes, scores[:, None]), dim=1)
    expected = plain.nms_match(boxes.tolist(), scores.tolist(), threshold)
    assert 1 < len(expected) < 40
    groups = nms_match(dets.to(device), threshold)
    assert all(group.device.type == device and group.dtype == torch.long for group in groups)
    assert [group.tolist() for group in groups] == expected
    assert [group.tolist() for group in nms_match(dets.numpy(), threshold)] == expected


def test_nms_match_takes_equal_overlaps_which_nms_does_not_ties_and_points():
    dets = torch.tensor([[0.0, 0, 2, 1, 0.9], [0, 0, 1, 1, 0.8]])  # overlap 1 / 2
    assert [group.tolist() for group in nms_match(dets, 0.5)] == [[0, 1]]
    assert nms(dets[:, :4], dets[:, 4], 0.5)[1].tolist() == [0, 1]
    same = torch.tensor([[0.0, 0, 2, 2, 0.5]]).repeat(3, 1)
    assert [group.tolist() for group in nms_match(same, 0.5)] == [[0, 1, 2]]
    points = torch.tensor([[1.0, 1, 1, 1, 0.5], [1, 1, 1, 1, 0.9]])
    assert [group.tolist() for group in nms_match(points, 0.5)] == [[1], [0]]


def test_no_boxes():
    boxes, scores = torch.zeros(0, 4), torch.zeros(0)
    for function in (nms, soft_nms):
        dets, kept = function(boxes, scores, 0.5)
        assert dets.shape == (0, 5)
        assert kept.shape == (0,)
        assert kept.dtype == torch.long
    assert bbox_overlaps(boxes, torch.zeros(3, 4)).shape == (0, 3)
    assert nms_match(torch.zeros(0, 5), 0.5) == []
