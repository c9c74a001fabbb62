"""Detectors on parts of an image predict what mmdet predicts on the whole."""

import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from pycocotools import mask as coco_mask
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from xcit_dense.engine import NotAsBuilt, TensorSource, products
from xcit_dense.errors import UserError
from xcit_dense.large import maps, rois
from xcit_dense.large.detectors import DetectorStream
from xcit_dense.predict import postprocessing

register_all_modules()


@pytest.fixture(autouse=True)
def scope():
    """Whatever other tests of the process have left."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


NMS = dict(type="nms", iou_threshold=0.5)
CODER = dict(type="DeltaXYWHBBoxCoder", target_stds=[0.1, 0.1, 0.2, 0.2])
MASK_HEAD = dict(
    type="FCNMaskHead", num_convs=1, in_channels=16, conv_out_channels=16, num_classes=3
)


def extractor(size, ratio=0):
    return dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=size, sampling_ratio=ratio),
        out_channels=16,
        featmap_strides=[4, 8, 16, 32],
        finest_scale=24,
    )


def bbox_head(reg_class_agnostic):
    return dict(
        type="Shared2FCBBoxHead",
        in_channels=16,
        fc_out_channels=32,
        num_classes=3,
        bbox_coder=CODER,
        reg_class_agnostic=reg_class_agnostic,
    )


def two_stages(kind, **roi_head):
    anchors = dict(scales=[4], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])
    return dict(
        type=kind,
        neck=dict(type="FPN", in_channels=[32] * 4, out_channels=16, num_outs=5),
        rpn_head=dict(
            type="RPNHead",
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(type="AnchorGenerator", **anchors),
            bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
        ),
        roi_head=roi_head,
        train_cfg=None,
        test_cfg=dict(
            rpn=dict(nms_pre=150, max_per_img=120, nms=NMS, min_bbox_size=0),
            rcnn=dict(score_thr=0.1, nms=NMS, max_per_img=60, mask_thr_binary=0.5),
        ),
    )


STANDARD = dict(type="StandardRoIHead", bbox_roi_extractor=extractor(7), bbox_head=bbox_head(False))
CASCADE = dict(
    type="CascadeRoIHead",
    num_stages=3,
    stage_loss_weights=[1, 0.5, 0.25],
    bbox_roi_extractor=extractor(7, 2),
    bbox_head=[bbox_head(True)] * 3,
)
MASKS = dict(mask_roi_extractor=extractor(14), mask_head=MASK_HEAD)
RETINA_NECK = dict(
    type="FPN",
    in_channels=[32] * 3,
    out_channels=16,
    num_outs=5,
    add_extra_convs="on_output",
    relu_before_extra_convs=True,
)
DETECTORS = {
    "Faster": two_stages("FasterRCNN", **STANDARD),
    "Mask": two_stages("MaskRCNN", **STANDARD, **MASKS),
    "Cascade": two_stages("CascadeRCNN", **CASCADE),
    "CascadeMask": two_stages("CascadeRCNN", **CASCADE, **MASKS),
    "Retina": dict(
        type="RetinaNet",
        neck=RETINA_NECK,
        bbox_head=dict(
            type="RetinaHead", num_classes=3, in_channels=16, stacked_convs=2, feat_channels=16
        ),
        test_cfg=dict(nms_pre=150, min_bbox_size=0, score_thr=0.05, nms=NMS, max_per_img=60),
    ),
}


def build(name, divisor=1, **options):
    """In float64, since rounding decides between equal scores; with weights that find much."""
    cfg = ConfigDict(DETECTORS[name] | options)
    strides = (4, 8, 16, 32)[-len(cfg.neck.in_channels) :]
    arch = dict(embed_dims=32, depth=4, num_heads=4, eta=0.5)
    cfg.backbone = dict(type="XCiT", arch=arch, out_strides=strides, attention="gram")
    cfg.data_preprocessor = dict(type="DetDataPreprocessor", pad_size_divisor=divisor)
    model = MODELS.build(cfg).double().eval()
    for part, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not part.startswith("backbone"):
            nn.init.kaiming_normal_(module.weight)
    return model


def image_of(*size):
    return torch.randn(3, *size).double()  # the preprocessor would round it to float32


def by_mmdet(model, image):
    size = image.shape[1:]
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
    with torch.no_grad():
        (result,) = model.predict(data["inputs"].double(), data["data_samples"])
    return result.pred_instances


@pytest.fixture(autouse=True)
def _pasting_in_float32(monkeypatch):
    """mmdet pastes no masks of float64."""
    paste = FCNMaskHead._predict_by_feat_single

    def single(head, mask_preds, bboxes, *others, **options):
        return paste(head, mask_preds.float(), bboxes.float(), *others, **options)

    monkeypatch.setattr(FCNMaskHead, "_predict_by_feat_single", single)


@pytest.fixture
def low_bands(monkeypatch):
    def choose(elements, lowest=8):
        monkeypatch.setattr(maps, "_ELEMENTS", elements)
        monkeypatch.setattr(products, "_CPU_ELEMENTS", elements)
        monkeypatch.setattr(rois, "_ELEMENTS", 4 * elements)
        monkeypatch.setattr(rois, "_LOWEST", lowest)

    return choose


def assert_equal(found, expected):
    assert len(expected) > 20
    assert set(found.keys()) == set(expected.keys())
    assert found.labels.equal(expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.bboxes, expected.bboxes, rtol=0, atol=1e-7)
    if "masks" in expected:
        masks = torch.from_numpy(coco_mask.decode(found.masks)).permute(2, 0, 1)
        assert (masks != expected.masks).sum() < 1e-3 * expected.masks.sum()
        assert expected.masks.any() and not expected.masks.all()


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    ("size", "divisor", "elements"),
    [((203, 333), 1, 8_000_000), ((260, 150), 32, 6_000), ((161, 75), 1, 100)],
)
def test_it_equals_mmdet(name, size, divisor, elements, low_bands):
    model, image = build(name, divisor), image_of(*size)
    low_bands(elements)
    assert_equal(DetectorStream(model).instances(TensorSource(image)), by_mmdet(model, image))


@pytest.mark.parametrize("convs", ["on_input", "on_lateral"])
def test_other_further_levels_and_thresholds(convs, low_bands):
    head = DETECTORS["Retina"]["bbox_head"] | dict(loss_cls=dict(type="CrossEntropyLoss"))
    model = build("Retina", neck=RETINA_NECK | dict(add_extra_convs=convs), bbox_head=head)
    image = image_of(131, 190)
    low_bands(6_000)
    assert_equal(DetectorStream(model).instances(TensorSource(image)), by_mmdet(model, image))


def test_an_image_without_objects():
    test_cfg = ConfigDict(DETECTORS["Mask"]["test_cfg"])
    test_cfg.rcnn.score_thr = 1.0
    found = DetectorStream(build("Mask", test_cfg=test_cfg)).instances(
        TensorSource(image_of(64, 64))
    )
    assert len(found) == 0 and found.masks == []


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operator makes."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, list | tuple) else [result]
        sizes = [tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor)]
        self.size = max(self.size, *sizes, 0)
        return result


class Repeated:
    """An image of any height."""

    def __init__(self, height):
        self.height, self.width = height, 64
        self.rows = image_of(64, 64)

    def read(self, first, last):
        return self.rows[:, torch.arange(first, last) % 64]


@pytest.mark.parametrize(
    ("name", "window"), [("CascadeMask", None), ("Retina", None), ("Faster", 128)]
)
def test_no_tensor_grows_with_the_image(name, window, low_bands, monkeypatch, tmp_path):
    monkeypatch.setattr(postprocessing, "_PIXELS_IN_A_BAND", 10_000)
    low_bands(6_000)
    stream = DetectorStream(build(name), window, store_folder=tmp_path)
    sizes = []
    for height in (512, 1024) if window else (768, 3072):
        with Largest() as largest:
            assert len(stream.instances(Repeated(height))) > 20
        sizes.append(largest.size)
    assert sizes[1] < 1.3 * sizes[0]


def test_rois_of_any_shape(low_bands):
    """Higher than the rows at hand, of no width, at borders and beyond them."""
    layers = MODELS.build(extractor(5, ratio=0)), MODELS.build(extractor(5, ratio=3))
    levels = [
        torch.randn(1, 16, -(-203 // stride), 40 // stride, dtype=torch.float64)
        for stride in (4, 8, 16, 32)
    ]
    boxes = torch.rand(200, 5, dtype=torch.float64) * torch.tensor([0, 40, 200, 40, 200.0])
    boxes[:, 3:] = boxes[:, 1:3] + boxes[:, 3:] * torch.rand(200, 1)
    boxes[:100, 3] = boxes[:100, 1] + 3  # thin ones, which stay on the finest level
    special = [
        [0, 0, -30, 4, 300],
        [0, 5, 0, 5, 203],
        [0, 0, 203, 40, 203],
        [0, 0, 0, 40, 203],
        [0, 1, 250, 9, 290],
    ]
    boxes = torch.cat([boxes, boxes.new_tensor(special)])
    low_bands(100, lowest=10)
    for layer in layers:
        assert sum((boxes[:, 4] - boxes[:, 2]) > 4 * 10) > 50
        found = torch.full((len(boxes), 16, 5, 5), torch.nan, dtype=torch.float64)
        for indices, features in rois.sweep(
            layer, lambda: [maps.OfTensor(level) for level in levels], boxes
        ):
            assert found[indices].isnan().all()
            found[indices] = features
        torch.testing.assert_close(found, layer(levels, boxes), rtol=0, atol=1e-9)


def test_a_window_as_large_as_the_image_is_the_whole():
    model, image = build("Mask"), TensorSource(image_of(130, 190))
    whole, windowed = (DetectorStream(model, window).instances(image) for window in (None, 400))
    assert windowed.labels.equal(whole.labels)
    torch.testing.assert_close(windowed.bboxes, whole.bboxes, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["Mask", "Retina"])
def test_limits_hold_for_each_window(name):
    model, image = build(name), image_of(256, 256)
    image[:, :, 128:] *= 0.1  # where scores are lower
    found = DetectorStream(model, window=128).instances(TensorSource(image))
    assert 60 < len(found) <= 4 * 60
    assert (found.scores.diff() <= 0).all()
    on_the_right = found.bboxes[:, 0] > 128
    assert on_the_right.sum() > 20
    overlaps = bbox_overlaps(found.bboxes, found.bboxes)
    same = (found.labels == found.labels[:, None]).fill_diagonal_(False)
    assert overlaps[same].max() <= 0.5
    assert ("masks" in found) == (name == "Mask")


def test_what_cannot_be_run_is_named():
    model = build("Mask")
    model.roi_head.mask_head.register_forward_hook(lambda *_: None)
    with pytest.raises(NotAsBuilt, match="FCNMaskHead"):
        DetectorStream(model)
    head = DETECTORS["Retina"]["bbox_head"] | dict(type="FreeAnchorRetinaHead")
    with pytest.raises(UserError, match=r"FreeAnchorRetinaHead .* only RetinaHead can.* tiles"):
        DetectorStream(build("Retina", bbox_head=head))
    norm_cfg = dict(type="GN", num_groups=4)
    with pytest.raises(NotAsBuilt, match="GroupNorm"):
        DetectorStream(build("Retina", neck=RETINA_NECK | dict(norm_cfg=norm_cfg)))
    test_cfg = DETECTORS["Retina"]["test_cfg"] | dict(nms_pre=-1)
    with pytest.raises(UserError, match="nms_pre=-1"):
        DetectorStream(build("Retina", test_cfg=test_cfg))
