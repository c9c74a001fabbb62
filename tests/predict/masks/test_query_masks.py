"""Queries upsampled one by one give what mmdet's fusion head gives, which upsamples all of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dev.benchmark.peak_memory import measure_peak_memory
from mmengine.config import ConfigDict
from pycocotools import mask as coco_mask
from torch import nn

import xcit_dense  # noqa: F401
from xcit_dense.predict.masks.query_masks import encode_query_masks

THINGS, STUFF = 4, 3
INPUT = (48, 64)  # with padding
IMAGE = (45, 60)
ORIGINALS = [(133, 177), (64, 64), (30, 40), (16, 16), (45, 60), (1, 150)]


def make_head(**test_cfg):
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead

    both = {"panoptic_on": True, "instance_on": True, "max_per_image": 20}
    return MaskFormerFusionHead(THINGS, STUFF, test_cfg=ConfigDict({**both, **test_cfg}))


def samples_of(sizes):
    from mmdet.structures import DetDataSample

    return [DetDataSample(metainfo={"img_shape": IMAGE, "ori_shape": size}) for size in sizes]


def queries_of(images, queries, sure=4.0):
    """Logits of classes and of masks, some of which are without pixels or at the threshold."""
    classes = torch.randn(images, queries, THINGS + STUFF + 1) * sure
    coarse = torch.randn(images * queries, 1, 5, 6) * 4
    masks = F.interpolate(coarse, size=INPUT, mode="bilinear").view(images, queries, *INPUT)
    masks[:, 0] = -3
    masks[:, 1::3, :20, :30] = 0
    masks[:, 2::3, 20:] = 30  # probability 1: products that tie
    return classes, masks


def predict(head, classes, masks, sizes, rescale=True):
    return head.predict(classes, masks, samples_of(sizes), rescale=rescale)


def assert_equal(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        assert one.keys() == other.keys()
        if "pan_results" in other:
            assert torch.equal(one["pan_results"].sem_seg, other["pan_results"].sem_seg)
            assert one["pan_results"].sem_seg.dtype == other["pan_results"].sem_seg.dtype
        if "ins_results" in other:
            one, other = one["ins_results"], other["ins_results"]
            assert set(one.keys()) == set(other.keys())
            assert torch.equal(one.labels, other.labels)
            assert torch.equal(one.bboxes, other.bboxes)
            torch.testing.assert_close(one.scores, other.scores, rtol=3e-7, atol=0)
            for mask, whole in zip(one.masks, other.masks.numpy(), strict=True):
                assert mask["size"] == list(whole.shape)
                assert np.array_equal(coco_mask.decode(mask), whole)


CONFIGS = {
    "both": {},
    "panoptic": {"instance_on": False},
    "instance": {"panoptic_on": False},
    "low scores filtered": {"filter_low_score": True, "object_mask_thr": 0.3, "iou_thr": 0.3},
    "all kept": {"object_mask_thr": 0.0, "iou_thr": 0.0, "max_per_image": 12 * (THINGS + STUFF)},
    "none kept": {"object_mask_thr": 1.0, "max_per_image": 0},
    "one": {"object_mask_thr": 0.9, "max_per_image": 1},
}


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("test_cfg", CONFIGS.values(), ids=CONFIGS)
def test_equal_to_all_at_once(test_cfg, rescale):
    head = make_head(**test_cfg)
    inputs = queries_of(len(ORIGINALS), 12)
    expected = predict(head, *inputs, ORIGINALS, rescale)
    before = [tensor.clone() for tensor in inputs]
    assert encode_query_masks(nn.ModuleList([head])) == 1
    assert_equal(predict(head, *inputs, ORIGINALS, rescale), expected)
    assert all(torch.equal(*pair) for pair in zip(inputs, before, strict=True))


def test_many_draws():
    segments = set()
    for seed in range(20):
        torch.manual_seed(seed)
        head = make_head(
            object_mask_thr=0.5, iou_thr=float(torch.rand(())), filter_low_score=bool(seed % 2)
        )
        inputs = queries_of(1, int(torch.randint(4, 20, ())), sure=3.0)
        expected = predict(head, *inputs, ORIGINALS[:1])
        encode_query_masks(head)
        assert_equal(predict(head, *inputs, ORIGINALS[:1]), expected)
        segments.add(len(expected[0]["pan_results"].sem_seg.unique()))
    assert len(segments) > 3  # the draws differ


def test_scores_are_rounded_as_by_mmdet():
    """Sums of single maps and of maps among others are split among threads differently."""
    head = make_head(panoptic_on=False)
    inputs = queries_of(1, 30)
    (expected,) = predict(head, *inputs, [(480, 640)])
    encode_query_masks(head)
    (ours,) = predict(head, *inputs, [(480, 640)])
    assert torch.equal(ours["ins_results"].scores, expected["ins_results"].scores)


def test_images_with_stuff_only_have_no_instances():
    head = make_head()
    classes, masks = queries_of(1, 5)
    classes[..., :THINGS] = -100
    head.test_cfg.max_per_image = 5
    expected = predict(head, classes, masks, ORIGINALS[:1])
    assert len(expected[0]["ins_results"]) == 0
    encode_query_masks(head)
    ours = predict(head, classes, masks, ORIGINALS[:1])
    assert_equal(ours, expected)
    assert ours[0]["ins_results"].masks == []
    assert ours[0]["ins_results"].bboxes.shape == (0, 4)


def test_a_share_at_the_threshold_is_kept():
    head = make_head(iou_thr=1.0, max_per_image=1)
    classes = torch.tensor([[[9.0] + [0.0] * (THINGS + STUFF)]])
    masks = torch.full((1, 1, *INPUT), 3.0)
    expected = predict(head, classes, masks, ORIGINALS[:1])
    encode_query_masks(head)
    ours = predict(head, classes, masks, ORIGINALS[:1])
    assert_equal(ours, expected)
    assert ours[0]["pan_results"].sem_seg.unique().tolist() == [1000]


def test_inputs_with_gradients():
    head = make_head()
    classes, masks = queries_of(1, 8)
    expected = predict(head, classes, masks, ORIGINALS[:1])
    encode_query_masks(head)
    ours = predict(head, classes.requires_grad_(), masks.requires_grad_(), ORIGINALS[:1])
    assert_equal(ours, expected)


def test_half_precision():
    head = make_head(object_mask_thr=0.3)
    inputs = [tensor.to(torch.bfloat16) for tensor in queries_of(1, 12)]
    expected = predict(head, *inputs, ORIGINALS[:1])
    encode_query_masks(head)
    assert_equal(predict(head, *inputs, ORIGINALS[:1]), expected)


def test_semantic_results_are_refused_as_by_mmdet():
    head = make_head(semantic_on=True)
    encode_query_masks(head)
    with pytest.raises(AssertionError, match="not supported yet"):
        predict(head, *queries_of(1, 5), ORIGINALS[:1])


@pytest.mark.parametrize("name", ["predict", "panoptic_postprocess", "instance_postprocess"])
def test_heads_with_a_way_of_their_own_stay(name):
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead

    own = type("Own", (MaskFormerFusionHead,), {name: lambda self, *args: "own"})
    head = own(THINGS, STUFF, test_cfg=ConfigDict())
    assert encode_query_masks(nn.ModuleList([head])) == 0
    assert getattr(head, name)() == "own"


def test_other_models_stay():
    assert encode_query_masks(nn.Linear(2, 2)) == 0


@pytest.mark.parametrize("kind", ["panoptic_on", "instance_on"])
def test_memory_does_not_grow_with_the_queries(kind):
    size = (3000, 3200)  # maps large enough to be given back to the system one by one
    floats = size[0] * size[1] * 4
    head = make_head(**{"panoptic_on": False, "instance_on": False, kind: True}, max_per_image=25)
    head.test_cfg.object_mask_thr = 0.0
    encode_query_masks(head)
    inputs = queries_of(1, 25)
    predict(head, *inputs, [(200, 200)])  # what torch allocates once
    peak, _ = measure_peak_memory(lambda: predict(head, *inputs, [size]))
    assert peak.bytes < 10 * floats  # mmdet's: more than 50
