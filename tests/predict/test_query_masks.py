"""Queries upsampled one by one give what mmdet's fusion head gives, which upsamples all of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from pycocotools import mask as coco_mask
from torch import nn

import xcit_dense  # noqa: F401
from xcit_dense.predict import encode_masks

THINGS, STUFF = 4, 3
INPUT = (48, 64)  # with padding
IMAGE = (45, 60)
ORIGINALS = [(133, 177), (30, 40), (45, 60), (1, 150)]


def make_head(**test_cfg):
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead

    both = {"panoptic_on": True, "instance_on": True, "max_per_image": 20}
    return MaskFormerFusionHead(THINGS, STUFF, test_cfg=ConfigDict({**both, **test_cfg}))


def queries_of(images, queries):
    """Logits of classes and of masks, some of which are without pixels."""
    classes = torch.randn(images, queries, THINGS + STUFF + 1) * 4
    coarse = torch.randn(images * queries, 1, 5, 6) * 4
    masks = F.interpolate(coarse, size=INPUT, mode="bilinear").view(images, queries, *INPUT)
    masks[:, 0] = -3
    return classes, masks


def predict(head, classes, masks, rescale):
    from mmdet.structures import DetDataSample

    sizes = ORIGINALS[: len(classes)]
    samples = [DetDataSample(metainfo={"img_shape": IMAGE, "ori_shape": size}) for size in sizes]
    return head.predict(classes, masks, samples, rescale=rescale)


def assert_close(ours, expected):
    assert ours.keys() == expected.keys()
    if "pan_results" in expected:
        one, other = ours["pan_results"].sem_seg, expected["pan_results"].sem_seg
        assert one.shape == other.shape
        assert (one != other).float().mean() < 1e-3
    if "ins_results" in expected:
        one, other = ours["ins_results"], expected["ins_results"]
        assert set(one.keys()) == set(other.keys())
        assert torch.equal(one.labels, other.labels)
        torch.testing.assert_close(one.bboxes, other.bboxes)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-5, atol=1e-6)
        for mask, whole in zip(one.masks, other.masks.numpy(), strict=True):
            assert (coco_mask.decode(mask) != whole).mean() < 1e-3


CONFIGS = {
    "both": {},
    "panoptic": {"instance_on": False},
    "instance": {"panoptic_on": False},
    "low scores filtered": {"filter_low_score": True, "object_mask_thr": 0.3, "iou_thr": 0.3},
    "all kept": {"object_mask_thr": 0.0, "iou_thr": 0.0, "max_per_image": 12 * (THINGS + STUFF)},
    "none kept": {"object_mask_thr": 1.0, "max_per_image": 0},
}


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("test_cfg", CONFIGS.values(), ids=CONFIGS)
def test_equal_to_all_at_once(test_cfg, rescale):
    head = make_head(**test_cfg)
    inputs = queries_of(len(ORIGINALS), 12)
    expected = predict(head, *inputs, rescale)
    assert encode_masks(nn.ModuleList([head])) == 1
    for ours, theirs in zip(predict(head, *inputs, rescale), expected, strict=True):
        assert_close(ours, theirs)


def test_many_draws():
    segments = set()
    for seed in range(8):
        torch.manual_seed(seed)
        iou_thr = float(torch.rand(()))
        head = make_head(object_mask_thr=0.5, iou_thr=iou_thr, filter_low_score=bool(seed % 2))
        inputs = queries_of(1, int(torch.randint(4, 20, ())))
        (expected,) = predict(head, *inputs, True)
        encode_masks(nn.ModuleList([head]))
        (ours,) = predict(head, *inputs, True)
        assert_close(ours, expected)
        segments.add(len(ours["pan_results"].sem_seg.unique()))
    assert len(segments) > 2  # the draws differ


def test_half_precision():
    head = make_head(object_mask_thr=0.3)
    inputs = [tensor.to(torch.bfloat16) for tensor in queries_of(1, 12)]
    encode_masks(nn.ModuleList([head]))
    (ours,) = predict(head, *inputs, True)
    assert ours["pan_results"].sem_seg.shape == (1, *ORIGINALS[0])
    assert len(ours["ins_results"].masks) == len(ours["ins_results"].scores) > 0


@pytest.mark.parametrize("name", ["predict", "panoptic_postprocess", "instance_postprocess"])
def test_heads_with_a_way_of_their_own_stay(name):
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead

    own = type("Own", (MaskFormerFusionHead,), {name: lambda self, *args: "own"})
    head = own(THINGS, STUFF, test_cfg=ConfigDict())
    assert encode_masks(nn.ModuleList([head])) == 0
    assert getattr(head, name)() == "own"


def test_masks_are_those_of_the_image():
    """Of one query with a mask on the left half."""
    head = make_head(max_per_image=1)
    classes = torch.tensor([[[9.0] + [0.0] * (THINGS + STUFF)]])
    masks = torch.full((1, 1, *INPUT), -9.0)
    masks[..., : IMAGE[1] // 2] = 9
    encode_masks(nn.ModuleList([head]))
    (found,) = predict(head, classes, masks, True)
    (mask,) = found["ins_results"].masks
    _, width = ORIGINALS[0]
    assert np.abs(coco_mask.decode(mask).sum(axis=1) - width / 2).max() <= 1
    assert found["pan_results"].sem_seg.unique().tolist() == [1000]
