"""Masks encoded in their boxes equal mmdet's, which are pasted into whole images."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import nn

import xcit_dense  # noqa: F401
from xcit_dense.predict.masks import box_masks
from xcit_dense.predict.masks.box_masks import encode_box_masks, encode_masks_in_boxes

HEIGHT, WIDTH = 61, 83
TEST_CFG = ConfigDict(mask_thr_binary=0.5)


def boxes_anywhere(count):
    centre = torch.rand(count, 2) * torch.tensor([WIDTH, HEIGHT])
    size = torch.rand(count, 2).exp() * 20
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


SPECIAL_BOXES = torch.tensor(
    [
        [0, 0, WIDTH, HEIGHT],  # the whole image
        [0, 0, WIDTH, 3.5],
        [WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT],  # the last pixel
        [10.2, 10.2, 10.9, 10.7],  # less than a pixel
        [20, 20, 20, 30],  # without width
        [-50, -50, 200, 200],
    ]
)
OUTSIDE = torch.tensor(
    [[-9, -9, -4, -4], [WIDTH + 5, 3, WIDTH + 9, 8], [3, 99, 9, 109], [torch.nan] * 4]
)


def pasted_by_mmdet(head, logits, boxes, labels, meta, rescale, **options):
    return type(head)._predict_by_feat_single(
        head, logits, boxes, labels, meta, TEST_CFG, rescale, **options
    )


@pytest.fixture
def head():
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    return FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=3)


def decoded(masks):
    return np.stack([coco_mask.decode(mask) for mask in masks]).astype(bool)


@pytest.mark.parametrize("pixels_in_a_band", [100, 2**20], ids=["bands", "one band"])
def test_equal_to_the_full_paste(head, monkeypatch, pixels_in_a_band):
    monkeypatch.setattr(box_masks, "PIXELS_IN_A_BAND", pixels_in_a_band)
    boxes = torch.cat([boxes_anywhere(40), SPECIAL_BOXES])
    logits = torch.randn(len(boxes), 3, 28, 28) * 2
    labels = torch.randint(0, 3, (len(boxes),))
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": (HEIGHT, WIDTH)}
    expected = pasted_by_mmdet(head, logits, boxes.clone(), labels, meta, True)
    picked = logits.sigmoid()[torch.arange(len(boxes)), labels]
    ours = encode_box_masks(picked, boxes, HEIGHT, WIDTH)
    assert np.array_equal(decoded(ours), expected.numpy())
    for mask, whole in zip(ours, expected.numpy(), strict=True):
        assert mask == coco_mask.encode(np.asfortranarray(whole.astype(np.uint8)))


def test_boxes_outside_have_empty_masks():
    """mmdet ends with an error."""
    masks = encode_box_masks(torch.ones(len(OUTSIDE), 7, 7), OUTSIDE, HEIGHT, WIDTH)
    assert not decoded(masks).any()


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_a_head_predicts_run_lengths(head, rescale, class_agnostic):
    head.class_agnostic = class_agnostic
    boxes = boxes_anywhere(9)
    labels = torch.randint(0, 3, (9,))
    logits = torch.randn(9, 1 if class_agnostic else 3, 14, 14)
    meta = {"scale_factor": (1.37, 0.81), "ori_shape": (HEIGHT, WIDTH)}
    theirs_boxes = boxes.clone()
    expected = pasted_by_mmdet(head, logits, theirs_boxes, labels, meta, rescale)

    assert encode_masks_in_boxes(nn.ModuleList([head])) == 1
    (result,) = head.predict_by_feat(
        (logits,), [InstanceData(bboxes=boxes, labels=labels)], [meta], TEST_CFG, rescale
    )
    assert np.array_equal(decoded(result.masks), expected.numpy())
    assert torch.equal(result.bboxes, theirs_boxes)  # scaled to the original image, as mmdet does


def test_averaged_masks_of_several_stages(head):
    """Cascade heads hand over probabilities as arrays."""
    boxes, labels = boxes_anywhere(5), torch.randint(0, 3, (5,))
    probabilities = torch.rand(5, 3, 14, 14)
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": (HEIGHT, WIDTH)}
    expected = pasted_by_mmdet(
        head, probabilities.numpy(), boxes.clone(), labels, meta, True, activate_map=True
    )
    encode_masks_in_boxes(nn.ModuleList([head]))
    (result,) = head.predict_by_feat(
        (probabilities.numpy(),), [InstanceData(bboxes=boxes, labels=labels)], [meta], TEST_CFG,
        rescale=True, activate_map=True,
    )  # fmt: skip
    assert np.array_equal(decoded(result.masks), expected.numpy())


def test_masks_without_a_threshold_are_an_error(head):
    encode_masks_in_boxes(nn.ModuleList([head]))
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": (HEIGHT, WIDTH)}
    with pytest.raises(ValueError, match="mask_thr_binary=-1: run lengths need a threshold"):
        head._predict_by_feat_single(
            torch.rand(1, 3, 7, 7), boxes_anywhere(1), torch.tensor([0]), meta,
            ConfigDict(mask_thr_binary=-1),
        )  # fmt: skip


def test_heads_that_paste_in_their_own_way_stay():
    assert encode_masks_in_boxes(nn.Linear(2, 2)) == 0


def test_a_head_that_may_read_masks_stays():
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    class HeadThatReadsMasks(FCNMaskHead):
        def predict_by_feat(self, *args, **kwargs):
            results = super().predict_by_feat(*args, **kwargs)
            return [result.masks & True for result in results]

    options = dict(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=1)
    assert encode_masks_in_boxes(nn.ModuleList([HeadThatReadsMasks(**options)])) == 0
    assert encode_masks_in_boxes(nn.ModuleList([FCNMaskHead(**options)])) == 1


def test_all_heads_of_a_cascade_change():
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    heads = [
        MODELS.build(dict(type="HTCMaskHead", num_convs=1, in_channels=4, conv_out_channels=4))
        for _ in range(3)
    ]
    assert encode_masks_in_boxes(nn.ModuleList(heads)) == 3


def test_heads_below_a_panoptic_fusion_stay(head):
    """It lays whole arrays over each other."""
    from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead

    model = nn.ModuleList([head, HeuristicFusionHead()])
    assert encode_masks_in_boxes(model) == 0
