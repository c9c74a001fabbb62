"""Segmentors run band by band give what they give for the whole image."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmseg.structures import SegDataSample
from torch import nn

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
    size = tuple(image.shape[1:])
    data = dict(
        inputs=[image],
        data_samples=[SegDataSample(metainfo=dict(ori_shape=size, img_shape=size))],
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


@pytest.mark.parametrize("head", ["UPerHead", "FPNHead"])
@torch.no_grad()
def test_bands_do_not_matter_with_a_window(head, monkeypatch, tmp_path):
    model, source = build(HEADS[head]), TensorSource(picture(300, 205))
    expected = streamed(SegmentorStream(model, window=64).logits(source))
    monkeypatch.setattr(maps, "_ELEMENTS", 1)
    found = streamed(SegmentorStream(model, window=64, store_folder=tmp_path).logits(source))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_window_as_large_as_the_image_is_the_whole():
    assert_equal(build(HEADS["UPerHead"]), picture(205, 133), window=224)


@torch.no_grad()
def test_nothing_far_away_is_seen_with_a_window():
    stream, image = SegmentorStream(build(HEADS["UPerHead"]), window=64), picture(1024, 64)
    other = image.clone()
    other[:, 800:] = 5
    one, changed = (streamed(stream.logits(TensorSource(each))) for each in (image, other))
    torch.testing.assert_close(one[:, :300], changed[:, :300])
    assert not torch.allclose(one[:, 700:800], changed[:, 700:800])


class HalfEmpty(TensorSource):
    """Without data from row 180 on, and in padding that is as high."""

    def valid(self, first, last):
        return (torch.arange(first, last) < 180)[:, None].expand(-1, self.width)


@pytest.mark.parametrize("window", [None, 96])
@torch.no_grad()
def test_what_has_no_data_is_not_pooled_either(window, bands):
    stream, image = SegmentorStream(build(HEADS["UPerHead"]), window), picture(400, 205)
    other = image.clone()
    other[:, 320:] = 5  # neighbours reach 2 x 16 rows a block
    one, changed = (streamed(stream.logits(HalfEmpty(each))) for each in (image, other))
    torch.testing.assert_close(one[:, :20], changed[:, :20], rtol=1e-4, atol=1e-4)
    seen = [streamed(stream.logits(TensorSource(each))) for each in (image, other)]
    assert window or not torch.allclose(seen[0][:, :20], seen[1][:, :20], atol=1e-2)


def test_padding_as_the_data_preprocessor_pads():
    for test_cfg in (dict(size_divisor=64), dict(size=(150, 200))):
        preprocessor = dict(mean=[0.1] * 3, std=[1.5] * 3, pad_val=3, test_cfg=test_cfg)
        model, image = build(HEADS["FCNHead"], preprocessor=preprocessor), picture(100, 130)
        found = streamed(SegmentorStream(model).logits(TensorSource((image - 0.1) / 1.5)))
        expected = whole(model, image)[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_two_classes_by_a_threshold():
    model = build(HEADS["FCNHead"], num_classes=2, out_channels=1, threshold=0.6)
    image = picture(64, 200)
    probabilities, expected = whole(model, image)
    stream = SegmentorStream(model)
    found = streamed(stream.logits(TensorSource(image))).sigmoid()
    torch.testing.assert_close(found, probabilities, rtol=1e-4, atol=1e-4)
    labels = streamed(stream.labels(TensorSource(image)))
    assert labels.float().mean() not in (0, 1)
    assert (labels != expected).float().mean() <= 1e-4


def test_every_row_is_made_once_and_few_are_kept(monkeypatch):
    monkeypatch.setattr(maps, "_ELEMENTS", 1)
    made, kept = {}, {}
    read = maps.FeatureMap._read

    def counting(self, first, last):
        before = self._made
        found = read(self, first, last)
        made[self] = made.get(self, 0) + self._made - before
        kept[self] = max(kept.get(self, 0), sum(rows.shape[2] for _, rows in self._pieces))
        return found

    monkeypatch.setattr(maps.FeatureMap, "_read", counting)
    stream = SegmentorStream(build(HEADS["FPNHead"], NECK))
    made.clear(), kept.clear()
    streamed(stream.labels(TensorSource(picture(600, 40))))
    assert len(made) > 20
    assert all(rows == each.height for each, rows in made.items())
    assert max(kept.values()) <= 12


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.train(),
        lambda model: model.decode_head.train(),
        lambda model: model.decode_head.dropout.train(),
        lambda model: model.register_forward_hook(print),
        lambda model: model.backbone.register_forward_hook(print),
        lambda model: model.decode_head.register_forward_pre_hook(print),
        lambda model: model.decode_head.bottleneck.conv.register_forward_hook(print),
        lambda model: model.decode_head.psp_modules[0].register_forward_hook(print),
        lambda model: setattr(model.decode_head.conv_seg, "stride", (2, 2)),
        lambda model: setattr(model.decode_head.fpn_convs[0].conv, "padding_mode", "circular"),
        lambda model: setattr(model.decode_head.fpn_convs[0].conv, "padding", (2, 2)),
        lambda model: setattr(model.decode_head.fpn_convs[0], "bn", nn.GroupNorm(2, 8)),
        lambda model: setattr(model.decode_head.fpn_convs[0], "activate", nn.Softmax(dim=2)),
        lambda model: nn.utils.parametrizations.weight_norm(model.decode_head.conv_seg),
    ],
)
def test_a_changed_part_is_noticed_before_the_start(change):
    model = build(HEADS["UPerHead"])
    SegmentorStream(model)
    change(model)
    with pytest.raises(NotAsBuilt):
        SegmentorStream(model)


def test_other_heads_are_refused_by_name():
    head = dict(type="PSPHead", in_channels=32, in_index=3)
    with pytest.raises(UserError, match=r"PSPHead.*UPerHead, FPNHead, FCNHead.*--mode tiles"):
        SegmentorStream(build(head))
