"""Masks and class maps made one by one equal mmdet's and mmseg's, which are made all at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from pycocotools import mask as coco_mask
from torch import nn

import xcit_dense  # noqa: F401
from xcit_dense.predict import encode_masks, keep_classes_only
from xcit_dense.predict.results import encode_columns

HEIGHT, WIDTH = 61, 83
TEST_CFG = ConfigDict(mask_thr_binary=0.5)
META = {"scale_factor": (1.37, 0.81), "ori_shape": (HEIGHT, WIDTH)}
THINGS, STUFF = 4, 3
INPUT = (48, 64)  # with padding
IMAGE = (45, 60)
ORIGINALS = [(133, 177), (30, 40), (45, 60), (1, 150)]


def decoded(encoded):
    return np.stack([coco_mask.decode(mask) for mask in encoded]).astype(bool)


def assert_nearly_equal(found, expected):
    """But for pixels at the threshold, which rounding may bring to either side."""
    assert found.shape == expected.shape
    assert (found != expected).mean() < 1e-4
    assert 0 < found.mean() < 0.9


def boxes_anywhere(count):
    centre = torch.rand(count, 2) * torch.tensor([WIDTH, HEIGHT])
    size = torch.rand(count, 2).exp() * 20
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


@pytest.fixture
def head():
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    return FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=3)


def test_columns_are_encoded_as_the_whole_image():
    rng = np.random.default_rng(0)
    for density in np.linspace(0, 1, 20):
        height, width = rng.integers(1, 30, 2).tolist()
        left, middle, right = np.sort(rng.integers(0, width + 1, 3)).tolist()
        top, bottom = np.sort(rng.integers(0, height + 1, 2)).tolist()
        if density > 0.5:
            top, bottom = 0, height  # where a run goes on in the next column
        whole = np.zeros((height, width), bool)
        whole[top:bottom, left:right] = rng.random((bottom - top, right - left)) < density
        parts = [
            (left, whole[top:bottom, left:middle].T),
            (middle, whole[top:bottom, middle:right].T),
        ]
        expected = coco_mask.encode(np.asfortranarray(whole.view(np.uint8)))
        assert encode_columns(parts, top, (height, width)) == expected


@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("averaged", [False, True])
def test_a_head_predicts_what_mmdet_pastes(head, class_agnostic, averaged):
    """Cascade heads hand over averaged probabilities of several stages, as arrays."""
    head.class_agnostic = class_agnostic
    special = [[0, 0, WIDTH, HEIGHT], [-50, -50, 200, 200], [20, 20, 20, 30.0]]
    boxes = torch.cat([boxes_anywhere(20), torch.tensor(special)])
    labels = torch.randint(0, 3, (len(boxes),))
    logits = torch.randn(len(boxes), 1 if class_agnostic else 3, 14, 14)
    given = logits.sigmoid().numpy() if averaged else logits
    options = dict(rescale=True, activate_map=averaged)
    theirs_boxes = boxes.clone()
    expected = type(head)._predict_by_feat_single(
        head, given, theirs_boxes, labels, META, TEST_CFG, **options
    )
    assert encode_masks(nn.ModuleList([head])) == 1
    instances = [InstanceData(bboxes=boxes, labels=labels)]
    (result,) = head.predict_by_feat((given,), instances, [META], TEST_CFG, **options)
    assert_nearly_equal(decoded(result.masks), expected.numpy())
    assert torch.equal(result.bboxes, theirs_boxes)  # scaled to the original image, as mmdet does


def test_bands_of_a_large_mask_join(head):
    """What is pasted over 3000 x 2000 pixels is what mmdet pastes."""
    encode_masks(nn.ModuleList([head]))
    boxes = torch.tensor([[-100.0, 200.0, 2900.0, 1900.0]])
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": (2000, 3000)}
    logits, label = torch.randn(1, 3, 14, 14), torch.zeros(1, dtype=torch.long)
    settings = (meta, TEST_CFG, True)
    mmdets = type(head)._predict_by_feat_single
    expected = mmdets(head, logits, boxes.clone(), label, *settings)
    instances = [InstanceData(bboxes=boxes, labels=label)]
    (result,) = head.predict_by_feat((logits,), instances, [meta], TEST_CFG, rescale=True)
    assert_nearly_equal(decoded(result.masks), expected.numpy())


def test_boxes_outside_of_the_image_have_no_mask(head):
    """For these mmdet ends with an error."""
    boxes = torch.tensor([[-9, -9, -4, -4], [WIDTH + 5, 3, WIDTH + 9, 8], [torch.nan] * 4])
    encode_masks(nn.ModuleList([head]))
    instances = [InstanceData(bboxes=boxes, labels=torch.zeros(3, dtype=torch.long))]
    logits = torch.full((3, 3, 7, 7), 9.0)
    meta = {**META, "scale_factor": (1.0, 1.0)}
    (result,) = head.predict_by_feat((logits,), instances, [meta], TEST_CFG, rescale=True)
    assert not decoded(result.masks).any()


def test_which_heads_change(head):
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead, HTCMaskHead
    from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead

    own = type("Own", (FCNMaskHead,), {"predict_by_feat": lambda self, *args: "own"})
    options = dict(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=1)
    cascade = [HTCMaskHead(with_conv_res=False, **options) for _ in range(3)]
    for heads, changed in [
        ([own(**options)], 0),
        ([head, HeuristicFusionHead()], 0),  # it lays whole arrays over each other
        ([nn.Linear(2, 2)], 0),
        (cascade, 3),
    ]:
        assert encode_masks(nn.ModuleList(heads)) == changed


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


def fuse(head, classes, masks, rescale):
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
        if len(one.masks):
            assert (decoded(one.masks) != other.masks.numpy()).mean() < 1e-3


TEST_CFGS = {
    "both": {},
    "panoptic": {"instance_on": False},
    "instance": {"panoptic_on": False},
    "low scores filtered": {"filter_low_score": True, "object_mask_thr": 0.3, "iou_thr": 0.3},
    "all kept": {"object_mask_thr": 0.0, "iou_thr": 0.0, "max_per_image": 12 * (THINGS + STUFF)},
    "none kept": {"object_mask_thr": 1.0, "max_per_image": 0},
}


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("test_cfg", TEST_CFGS.values(), ids=TEST_CFGS)
def test_equal_to_all_at_once(test_cfg, rescale):
    head = make_head(**test_cfg)
    inputs = queries_of(len(ORIGINALS), 12)
    expected = fuse(head, *inputs, rescale)
    assert encode_masks(nn.ModuleList([head])) == 1
    for ours, theirs in zip(fuse(head, *inputs, rescale), expected, strict=True):
        assert_close(ours, theirs)


def test_half_precision():
    head = make_head(object_mask_thr=0.3)
    inputs = [tensor.to(torch.bfloat16) for tensor in queries_of(1, 12)]
    encode_masks(nn.ModuleList([head]))
    (ours,) = fuse(head, *inputs, True)
    assert ours["pan_results"].sem_seg.shape == (1, *ORIGINALS[0])
    assert len(ours["ins_results"].masks) == len(ours["ins_results"].scores) > 0


@pytest.mark.parametrize("name", ["predict", "panoptic_postprocess", "instance_postprocess"])
def test_heads_with_a_way_of_their_own_stay(name):
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead

    own = type("Own", (MaskFormerFusionHead,), {name: lambda self, *args: "own"})
    head = own(THINGS, STUFF, test_cfg=ConfigDict())
    assert encode_masks(nn.ModuleList([head])) == 0
    assert getattr(head, name)() == "own"


def segmentor_of(kind, align_corners=False):
    """mmseg's post-processing, and no network."""
    model = kind.__new__(kind)
    nn.Module.__init__(model)
    model.align_corners = align_corners
    model.decode_head = nn.Identity()
    model.decode_head.threshold = 0.3
    return model


LOGITS = F.interpolate(
    torch.randn(2, 9, 5, 6, generator=torch.Generator().manual_seed(0)), (24, 31), mode="bicubic"
)
MARGINS = {"padding_size": [3, 0, 2, 5]}
DESCRIPTIONS = {
    "plain": {},
    "padded": MARGINS,
    "flipped": {"flip": True, "flip_direction": "horizontal", **MARGINS},
}


@pytest.mark.parametrize("classes", [1, 2, 9])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_equal_to_mmseg(classes, align_corners, description):
    found = []
    for is_lean in (False, True):
        segmentor = segmentor_of(EncoderDecoder, align_corners)
        assert not is_lean or keep_classes_only(segmentor)
        samples = [
            SegDataSample(metainfo={"ori_shape": size, **description})
            for size in [(60, 77), (11, 13)]
        ]
        found.append(segmentor.postprocess_result(LOGITS[:, :classes], samples))
    for expected, ours in zip(*found, strict=True):
        assert torch.equal(ours.pred_sem_seg.data.long(), expected.pred_sem_seg.data.long())
        assert len(ours.pred_sem_seg.data.unique()) > 1
        assert "seg_logits" not in ours


def test_segmentors_with_a_way_of_their_own_stay():
    model = segmentor_of(type("Own", (EncoderDecoder,), {"predict": lambda self, *args: "own"}))
    assert not keep_classes_only(model)
    assert "postprocess_result" not in vars(model)
