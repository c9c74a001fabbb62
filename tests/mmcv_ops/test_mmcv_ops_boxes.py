"""nms, nms_match, soft_nms and bbox_overlaps against loops over plain numbers."""

import math

import numpy as np
import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmcv")

from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms  # noqa: E402

DTYPES = [torch.float32, torch.float64]
LOW_DTYPES = [torch.float16, torch.bfloat16]


def random_boxes(count, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40 + 1
    scores = torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.cat((corner, corner + size), dim=1).to(dtype), scores.to(dtype)


def overlap(a, b, offset=0, mode="iou"):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    return width * height / (area_a if mode == "iof" else area_a + area_b - width * height)


def greedy_nms(boxes, scores, threshold, offset=0):
    boxes, scores = boxes.tolist(), scores.tolist()
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def greedy_groups(dets, threshold):
    """Indices of each box kept and of those it suppresses, best first; an equal overlap counts."""
    left = sorted(range(len(dets)), key=lambda i: -dets[i][4])
    groups = []
    while left:
        best = left.pop(0)
        group = [i for i in left if overlap(dets[best], dets[i]) >= threshold]
        left = [i for i in left if i not in group]
        groups.append([best, *group])
    return groups


def literal_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    """Soft-NMS on lists, with mmcv's order: take the best, lower the others, drop the low."""
    left = [[i, box, score] for i, (box, score) in enumerate(zip(boxes, scores, strict=True))]
    taken = []
    while left:
        best = max(left, key=lambda entry: entry[2])
        left.remove(best)
        taken.append((best[0], best[2]))
        for entry in left:
            iou = overlap(best[1], entry[1], offset)
            if method == "gaussian":
                entry[2] *= math.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                entry[2] *= 0 if method == "naive" else 1 - iou
        left = [entry for entry in left if entry[2] >= min_score]
    return taken


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_nms_equals_the_greedy_loop(dtype, offset, threshold, device):
    boxes, scores = random_boxes(80, dtype)
    expected = greedy_nms(boxes, scores, threshold, offset)
    dets, kept = nms(boxes.to(device), scores.to(device), threshold, offset=offset)
    assert 1 < len(expected) < 80
    assert kept.tolist() == expected
    assert dets.dtype == dtype
    torch.testing.assert_close(dets.cpu(), torch.cat((boxes, scores[:, None]), 1)[expected])


def test_nms_offset_changes_the_result():
    boxes = torch.tensor([[0.0, 0, 1, 1], [1, 0, 2, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.3, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.3, offset=1)[1].tolist() == [0]


def test_nms_of_arrays_with_score_threshold_and_limit():
    boxes, scores = random_boxes(60, torch.float32)
    above = [i for i in greedy_nms(boxes, scores, 0.5) if scores[i] > 0.4]
    dets, kept = nms(boxes.numpy(), scores.numpy(), 0.5, score_threshold=0.4, max_num=5)
    assert isinstance(dets, np.ndarray)
    assert kept.tolist() == above[:5]


@pytest.mark.parametrize("dtype", LOW_DTYPES)
def test_nms_in_low_precision_equals_float32_on_the_same_numbers(dtype, device):
    boxes, scores = (tensor.to(device, dtype) for tensor in random_boxes(60))
    dets, kept = nms(boxes, scores, 0.5)
    assert dets.dtype == dtype
    assert kept.tolist() == nms(boxes.float(), scores.float(), 0.5)[1].tolist()


def test_no_boxes():
    boxes, scores = torch.zeros(0, 4), torch.zeros(0)
    for function in (nms, soft_nms):
        dets, kept = function(boxes, scores, 0.5)
        assert dets.shape == (0, 5)
        assert kept.shape == (0,)
        assert kept.dtype == torch.long
    assert bbox_overlaps(boxes, torch.zeros(3, 4)).shape == (0, 3)


@pytest.mark.parametrize("split_thr", [10000, 10])
def test_batched_nms_keeps_classes_apart(split_thr, device):
    boxes, scores = random_boxes(60, torch.float32)
    classes = torch.arange(60) % 3
    expected = []
    for number in range(3):
        members = (classes == number).nonzero().flatten()
        expected += members[greedy_nms(boxes[members], scores[members], 0.4)].tolist()
    expected.sort(key=lambda i: -scores[i])
    config = dict(type="nms", iou_threshold=0.4, split_thr=split_thr)
    arguments = (boxes.to(device), scores.to(device), classes.to(device), config)
    assert batched_nms(*arguments)[1].tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("min_score", [0.0, 0.05])
def test_soft_nms_equals_the_literal_loop(dtype, method, offset, min_score, device):
    boxes, scores = random_boxes(40, dtype)
    settings = dict(sigma=0.4, min_score=min_score, method=method, offset=offset)
    taken = literal_soft_nms(boxes.tolist(), scores.tolist(), 0.3, **settings)
    # Boxes that the naive method set to 0 tie, and ties have no order.
    firm = [index for index, score in taken if score > 0]
    dets, inds = soft_nms(boxes.to(device), scores.to(device), 0.3, **settings)
    assert inds[: len(firm)].tolist() == firm
    assert sorted(inds.tolist()) == sorted(index for index, _ in taken)
    torch.testing.assert_close(dets[:, :4].cpu(), boxes[inds.cpu()])
    torch.testing.assert_close(
        dets[:, 4].cpu(), torch.tensor([score for _, score in taken], dtype=dtype)
    )


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


def test_soft_nms_leaves_its_inputs_and_serves_batched_nms():
    boxes, scores = random_boxes(30, torch.float32)
    boxes_before, scores_before = boxes.clone(), scores.clone()
    config = dict(type="soft_nms", iou_threshold=0.3, min_score=0.05)
    dets, kept = batched_nms(boxes, scores, torch.zeros(30, dtype=torch.long), config)
    assert torch.equal(boxes, boxes_before)
    assert torch.equal(scores, scores_before)
    taken = literal_soft_nms(boxes.tolist(), scores.tolist(), 0.3, 0.5, 0.05, "linear", 0)
    assert kept.tolist() == [index for index, _ in taken]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in taken]))


@pytest.mark.parametrize("dtype", DTYPES + LOW_DTYPES)
@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("offset", [0, 1])
def test_bbox_overlaps_equals_the_double_loop(dtype, mode, offset, device):
    first, second = random_boxes(7, dtype, seed=1)[0], random_boxes(7, dtype, seed=2)[0]
    expected = torch.tensor(
        [[overlap(a, b, offset, mode) for b in second.tolist()] for a in first.tolist()]
    ).to(dtype)
    assert expected.count_nonzero() > 5
    first, second = first.to(device), second.to(device)
    together = bbox_overlaps(first, second[:5], mode=mode, offset=offset)
    row_by_row = bbox_overlaps(first, second, mode=mode, offset=offset, aligned=True)
    torch.testing.assert_close(together.cpu(), expected[:, :5])
    torch.testing.assert_close(row_by_row.cpu(), expected.diagonal())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_nms_match_equals_the_greedy_loop(dtype, threshold, device):
    boxes, scores = random_boxes(40, dtype)
    dets = torch.cat((boxes, scores[:, None]), dim=1)
    expected = greedy_groups(dets.tolist(), threshold)
    assert 1 < len(expected) < 40
    groups = nms_match(dets.to(device), threshold)
    assert all(group.device.type == device and group.dtype == torch.long for group in groups)
    assert [group.tolist() for group in groups] == expected
    arrays = nms_match(dets.numpy(), threshold)
    assert [group.tolist() for group in arrays] == expected


def test_nms_match_takes_the_overlap_at_the_threshold_which_nms_does_not():
    dets = torch.tensor([[0.0, 0, 2, 1, 0.9], [0, 0, 1, 1, 0.8]])  # overlap 1 / 2
    assert [group.tolist() for group in nms_match(dets, 0.5)] == [[0, 1]]
    assert nms(dets[:, :4], dets[:, 4], 0.5)[1].tolist() == [0, 1]


def test_nms_match_of_nothing_of_ties_and_of_boxes_without_area():
    assert nms_match(torch.zeros(0, 5), 0.5) == []
    same = torch.tensor([[0.0, 0, 2, 2, 0.5]]).repeat(3, 1)
    assert [group.tolist() for group in nms_match(same, 0.5)] == [[0, 1, 2]]
    points = torch.tensor([[1.0, 1, 1, 1, 0.5], [1, 1, 1, 1, 0.9]])
    assert [group.tolist() for group in nms_match(points, 0.5)] == [[1], [0]]
