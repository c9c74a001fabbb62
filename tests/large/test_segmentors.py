"""Segmentors run band by band give what they give for the whole image."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmseg.structures import SegDataSample
from torch import nn

import xcit_dense  # noqa: F401
from xcit_dense.engine import NotAsBuilt, TensorSource
from xcit_dense.errors import UserError
from xcit_dense.large import maps
from xcit_dense.large.segmentors import SegmentorStream

NORM = dict(type="BN")
MANY = dict(in_channels=[32] * 4, in_index=[0, 1, 2, 3])
ONE = dict(in_channels=32, in_index=2)
HEADS = {
    "UPerHead": dict(type="UPerHead", **MANY),
    "FPNHead": dict(type="FPNHead", feature_strides=[4, 8, 16, 32], **MANY),
    "FCNHead": dict(type="FCNHead", dilation=2, **ONE),
    "FCNHead of one level": dict(type="FCNHead", num_convs=0, **(ONE | dict(channels=32))),
    "FCNHead of all levels": dict(type="FCNHead", input_transform="resize_concat", **MANY),
}
NECK = dict(type="FPN", in_channels=[32] * 4, out_channels=32, num_outs=4)


def build(head, neck=None, patch_size=16, preprocessor=None, **changes):
    """A small segmentor whose every weight shows."""
    init_default_scope("mmseg")
    head = dict(channels=8, num_classes=5, norm_cfg=NORM) | head | changes
    arch = dict(embed_dims=32, depth=4, num_heads=4, eta=0.5)
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor", **(preprocessor or {})),
        backbone=dict(type="XCiT", arch=arch, patch_size=patch_size),
        neck=neck,
        decode_head=head,
        test_cfg=dict(mode="whole"),
    )
    model = MODELS.build(ConfigDict(model)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, std=0.3)
    nn.init.normal_(model.decode_head.conv_seg.weight, std=0.5)
    return model


def picture(height, width):
    """Normalised pixels (3, H, W), different from part to part."""
    coarse = torch.randn(1, 3, height // 30 + 2, width // 30 + 2)
    return F.interpolate(coarse, (height, width))[0] + 0.3 * torch.randn(3, height, width)


def whole(model, image):
    """What mm predicts of images as they are loaded; gradients keep the engine away."""
    data = dict(
        inputs=[image],
        data_samples=[
            SegDataSample(metainfo=dict(ori_shape=image.shape[1:], img_shape=image.shape[1:]))
        ],
    )
    found = model.predict(**model.data_preprocessor(data))[0]
    return found.seg_logits.data.detach(), found.pred_sem_seg.data[0]


def streamed(found):
    """All bands of an image together, which have to follow each other."""
    bands, height = [], 0
    for first, band in found:
        assert first == height
        bands.append(band)
        height += band.shape[-2]
    return torch.cat(bands, dim=-2)


def assert_equal(model, image, **options):
    stream, source = SegmentorStream(model, **options), TensorSource(image)
    logits, labels = whole(model, image)
    found = streamed(stream.logits(source))
    assert found.shape == logits.shape
    assert (found - logits).abs().max() <= 1e-5 * logits.abs().max()
    different = streamed(stream.labels(source)) != labels
    assert different.float().mean() <= 1e-4


@pytest.fixture(params=["few bands", "many bands"])
def bands(request, monkeypatch):
    monkeypatch.setattr(maps, "_ELEMENTS", {"few bands": 50_000, "many bands": 1}[request.param])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("patch_size", "size"), [(16, (205, 133)), (8, (64, 160)), (16, (9, 31))])
def test_heads_give_what_they_give_for_the_whole_image(head, align_corners, patch_size, size):
    model = build(HEADS[head], patch_size=patch_size, align_corners=align_corners)
    assert_equal(model, picture(*size))


def test_bands_of_any_height_give_the_same(bands):
    assert_equal(build(HEADS["UPerHead"]), picture(205, 133))


@pytest.mark.parametrize(
    "upsample", [dict(mode="nearest"), dict(mode="bilinear", align_corners=True)]
)
def test_a_neck_between(upsample, bands):
    neck = NECK | dict(upsample_cfg=upsample)
    assert_equal(build(HEADS["FPNHead"], neck), picture(205, 133))
