"""Masks upsampled one by one equal those of mmdet's heads, which upsample all of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dev.benchmark.peak_memory import measure_peak_memory
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import nn

import xcit_dense  # noqa: F401
from xcit_dense.predict.masks.deferred_masks import DeferInterpolation, DeferredMasks
from xcit_dense.predict.masks.run_lengths import encode_mask
from xcit_dense.predict.masks.upsampled_masks import encode_upsampled_masks

SOLO = dict(
    num_classes=3,
    in_channels=4,
    feat_channels=4,
    stacked_convs=1,
    strides=(1, 2),
    scale_ranges=((1, 8), (8, 99)),
    num_grids=[4, 2],
    norm_cfg=dict(type="GN", num_groups=2),
    loss_mask=dict(type="DiceLoss", use_sigmoid=True, activate=False),
)
POINTS = 4 * 4 + 2 * 2
TEST_CFG = ConfigDict(
    score_thr=0.1, mask_thr=0.5, nms_pre=500, max_per_img=100, kernel="gaussian", sigma=2.0,
    filter_thr=0.0, nms=dict(type="nms", iou_threshold=1.0), mask_thr_binary=0.5,
)  # fmt: skip
# each (height, width)
SIZES = {
    "larger": dict(low=(20, 27), padded=(80, 108), image=(77, 101), original=(333, 437)),
    "smaller": dict(low=(20, 27), padded=(80, 108), image=(77, 101), original=(60, 75)),
    "tiny": dict(low=(20, 27), padded=(80, 108), image=(77, 101), original=(31, 40)),
    "from tiny": dict(low=(10, 9), padded=(40, 36), image=(40, 33), original=(160, 132)),
    "a line": dict(low=(20, 27), padded=(80, 108), image=(77, 101), original=(1, 200)),
}


@pytest.fixture(autouse=True)
def _mmdet():
    init_default_scope("mmdet")


def meta(sizes):
    height, width = (o / i for o, i in zip(sizes["original"], sizes["image"], strict=True))
    return {
        "img_shape": sizes["image"],
        "ori_shape": sizes["original"],
        "scale_factor": (1 / width, 1 / height),
    }


def smooth(count, low):
    """Probabilities, each map of its own, with whole areas at the threshold."""
    if not count:
        return torch.zeros(0, *low)
    logits = F.interpolate(torch.randn(1, count, 5, 6) * 3, size=low, mode="bilinear")[0]
    probabilities = logits.sigmoid()
    probabilities[:, : low[0] // 4, : low[1] // 3] = 0.5
    return probabilities


def scores_of(count):
    """Classes of all points, ``count`` of which have something."""
    scores = torch.zeros(POINTS, 3)
    scores[torch.randperm(POINTS)[:count], torch.randint(0, 3, (count,))] = torch.rand(count) + 0.3
    return scores


def with_boxes(count, sizes):
    height, width = sizes["image"]
    corner = torch.rand(count, 2) * torch.tensor([width, height]) / 2
    return torch.cat([corner, corner * 2], dim=1)


def solo(count, sizes):
    from mmdet.models.dense_heads import SOLOHead

    head = SOLOHead(**SOLO, test_cfg=TEST_CFG)
    inputs = scores_of(count), smooth(POINTS, sizes["low"])
    return head, lambda: head._predict_by_feat_single(inputs[0].clone(), inputs[1], meta(sizes))


def decoupled_solo(count, sizes):
    from mmdet.models.dense_heads import DecoupledSOLOLightHead

    head = DecoupledSOLOLightHead(**SOLO, test_cfg=TEST_CFG)
    scores, across, down = scores_of(count), smooth(6, sizes["low"]), smooth(6, sizes["low"])
    across, down = across.sqrt(), down.sqrt()
    return head, lambda: head._predict_by_feat_single(scores.clone(), across, down, meta(sizes))


def solov2(count, sizes):
    from mmdet.models.dense_heads import SOLOV2Head

    features = dict(
        feat_channels=4, start_level=0, end_level=1, out_channels=8, mask_stride=4,
        norm_cfg=dict(type="GN", num_groups=2),
    )  # fmt: skip
    head = SOLOV2Head(**SOLO, mask_feature_head=ConfigDict(features), test_cfg=TEST_CFG)
    kernels, scores = torch.randn(POINTS, 8), scores_of(count)
    features = F.interpolate(torch.randn(1, 8, 5, 6), size=sizes["low"], mode="bilinear")
    return head, lambda: head._predict_by_feat_single(
        kernels, scores.clone(), features, meta(sizes)
    )


def condinst(count, sizes, rescale=True, kind="CondInstMaskHead", stride=4):
    from mmdet.models import dense_heads

    features = dict(
        in_channels=4, feat_channels=4, start_level=0, end_level=1, out_channels=8, mask_stride=8,
        num_stacked_convs=1,
    )  # fmt: skip
    head = getattr(dense_heads, kind)(
        mask_feature_head=features, loss_mask=dict(type="DiceLoss"), mask_out_stride=stride,
        test_cfg=TEST_CFG,
    )  # fmt: skip
    logits, boxes = smooth(count, sizes["low"]).logit(), with_boxes(count, sizes)

    def predict():
        found = InstanceData(bboxes=boxes.clone(), labels=torch.zeros(count), scores=boxes[:, 0])
        return head.predict_by_feat([logits], [found], [meta(sizes)], rescale=rescale)[0]

    return head, predict


def condinst_at_input_size(count, sizes):
    return condinst(count, sizes, rescale=False)


def condinst_without_upsampling(count, sizes):
    return condinst(count, sizes, stride=1)


def boxinst(count, sizes):
    return condinst(count, sizes, kind="BoxInstMaskHead")


def yolact(count, sizes, rescale=True):
    from mmdet.models.dense_heads import YOLACTProtonet

    head = YOLACTProtonet(
        num_classes=3, in_channels=4, proto_channels=(4, 4), proto_kernel_sizes=(3, 1),
        test_cfg=TEST_CFG,
    )  # fmt: skip
    masks, boxes = smooth(count, sizes["low"]), with_boxes(count, sizes)
    masks = masks.permute(1, 2, 0)

    def predict():
        found = InstanceData(bboxes=boxes.clone(), labels=torch.zeros(count), scores=boxes[:, 0])
        return head.predict_by_feat([masks], None, [found], [meta(sizes)], rescale=rescale)[0]

    return head, predict


def yolact_at_input_size(count, sizes):
    return yolact(count, sizes, rescale=False)


def rtmdet(count, sizes, rescale=True):
    from mmdet.models.dense_heads import RTMDetInsSepBNHead

    head = RTMDetInsSepBNHead(
        num_classes=3, in_channels=4, feat_channels=4, stacked_convs=1, share_conv=False,
        anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=[4, 8]),
        bbox_coder=dict(type="DistancePointBBoxCoder"), test_cfg=TEST_CFG,
    )  # fmt: skip
    features = F.interpolate(torch.randn(1, 8, 5, 6), size=sizes["low"], mode="bilinear")
    found = dict(
        bboxes=with_boxes(count, sizes),
        scores=torch.rand(count),
        labels=torch.randint(0, 3, (count,)),
        priors=torch.tensor([[10.0, 10.0, 4.0, 4.0]]).repeat(count, 1),
        kernels=torch.randn(count, head.num_gen_params),
    )
    return head, lambda: head._bbox_mask_post_process(
        InstanceData(**found), features, TEST_CFG, rescale=rescale, img_meta=meta(sizes)
    )


def rtmdet_at_input_size(count, sizes):
    return rtmdet(count, sizes, rescale=False)


HEADS = [
    solo, decoupled_solo, solov2, condinst, condinst_at_input_size, condinst_without_upsampling,
    boxinst, yolact, yolact_at_input_size, rtmdet, rtmdet_at_input_size,
]  # fmt: skip


def decoded(masks):
    if isinstance(masks, torch.Tensor):
        return masks.numpy()
    return np.stack([coco_mask.decode(mask) for mask in masks]).astype(bool)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("make", HEADS, ids=lambda make: make.__name__)
def test_equal_to_all_at_once(make, sizes):
    for count in (0, 1, 2, 3, 12):
        head, predict = make(count, sizes)
        expected = predict()
        assert encode_upsampled_masks(nn.ModuleList([head])) == 1
        ours = predict()
        assert len(ours) == len(expected)
        assert set(ours.keys()) == set(expected.keys())
        assert np.array_equal(decoded(ours.masks), expected.masks.numpy())
        for key in set(ours.keys()) - {"masks"}:
            assert torch.equal(ours[key], expected[key])
        size = expected.masks.shape[-2:]
        if len(ours) not in (0, 3) and sum(size) > 128:
            assert [mask["size"] for mask in ours.masks] == [list(size)] * len(ours)


@pytest.mark.parametrize("make", HEADS, ids=lambda make: make.__name__)
def test_the_inputs_above_have_masks_with_borders(make):
    masks = make(12, SIZES["larger"])[1]().masks.float().mean(dim=(1, 2))
    assert len(masks) >= 8
    assert ((masks > 0.01) & (masks < 0.95)).sum() >= len(masks) / 2


def test_heads_with_a_way_of_their_own_stay():
    from mmdet.models.dense_heads import SOLOHead

    class Own(SOLOHead):
        def _predict_by_feat_single(self, *args, **kwargs):
            return "own"

    head = Own(**SOLO, test_cfg=TEST_CFG)
    assert encode_upsampled_masks(nn.ModuleList([head])) == 0
    assert head._predict_by_feat_single() == "own"


def test_other_models_stay():
    assert encode_upsampled_masks(nn.Linear(2, 2)) == 0


@pytest.fixture(params=[1, 2])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_rounded_as_among_all():
    """Where torch rounds otherwise, masks do not wait."""
    for count in (1, 2, 3, 4, 7, 8, 9, 33):
        masks = torch.rand(1, count, 20, 27)
        for size in ((64, 64), (64, 65), (9, 300)):
            with DeferInterpolation():
                ours = F.interpolate(masks, size=size, mode="bilinear")
            if isinstance(ours, DeferredMasks):
                ours = torch.cat(list(ours._one_by_one()), dim=1)
            assert torch.equal(ours, F.interpolate(masks, size=size, mode="bilinear"))


def deferred():
    with DeferInterpolation():
        return F.interpolate(torch.randn(1, 4, 8, 9), size=(90, 80), mode="bilinear")


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("mul", lambda masks: masks * 2),
        ("softmax", lambda masks: masks.softmax(1)),
        ("flip", lambda masks: masks.flip(-1)),
        ("cat", lambda masks: torch.cat([masks, masks])),
        ("cpu", lambda masks: masks.cpu()),
        ("squeeze", lambda masks: masks.squeeze()),
        ("__getitem__", lambda masks: masks[:, 1:]),
        ("__getitem__", lambda masks: masks[:, 1:, :5, :5]),
        ("__getitem__", lambda masks: masks[:, torch.tensor([2, 1, 0, 3]), :5, :5]),
        ("__getitem__", lambda masks: masks[..., 0]),
        ("__getitem__", lambda masks: masks[0]),
        ("pad", lambda masks: F.pad(masks, (0, 0, 0, 0, 1, 1))),
        ("gt", lambda masks: masks > 0.5),  # still (1, n, h, w)
        ("gt", lambda masks: masks.squeeze(0) > torch.rand(4, 1, 1)),
        ("lt", lambda masks: masks.squeeze(0) < 0.5),
        ("interpolate", lambda masks: F.interpolate(masks.squeeze(0), size=7)),
        ("sigmoid_", lambda masks: masks.sigmoid_()),
    ],
)
def test_unknown_operations_are_errors(name, operation):
    with pytest.raises(NotImplementedError, match=rf"{name} on masks that are encoded one by one"):
        operation(deferred())


def test_only_masks_of_one_image_wait():
    maps = torch.randn(2, 3, 8, 9)
    with DeferInterpolation():
        upsampled = F.interpolate(maps, size=(90, 80), mode="bilinear")
    assert not isinstance(upsampled, DeferredMasks)
    assert torch.equal(upsampled, F.interpolate(maps, size=(90, 80), mode="bilinear"))
    assert isinstance(deferred(), DeferredMasks)


def test_steps_in_turn():
    masks = torch.randn(1, 4, 8, 9)
    with DeferInterpolation():
        wide = F.interpolate(masks, scale_factor=20, mode="bilinear")
        assert wide.shape == (1, 4, 160, 180)
        padded = F.pad(wide[..., :150, 3:].sigmoid(), (1, 2, 3, 4), mode="replicate")
        encoded = padded.squeeze(0) > 0.4
    wide = F.interpolate(masks, scale_factor=20, mode="bilinear")
    padded = F.pad(wide[..., :150, 3:].sigmoid(), (1, 2, 3, 4), mode="replicate")
    assert encoded == [encode_mask(mask.numpy()) for mask in padded[0] > 0.4]


def test_memory_does_not_grow_with_the_instances():
    size = (3000, 3200)  # maps large enough to be given back to the system one by one
    floats = size[0] * size[1] * 4
    head, predict = solov2(POINTS, {**SIZES["larger"], "original": size})
    encode_upsampled_masks(nn.ModuleList([head]))
    peak, found = measure_peak_memory(predict)
    assert len(found) >= 15
    assert peak.bytes < 10 * floats  # mmdet's: 25
