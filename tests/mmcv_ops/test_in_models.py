"""The parts of mmdet and mmsegmentation that call the served ops, forward and backward."""

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmdet.models.dense_heads import GARPNHead  # noqa: E402
from mmdet.models.necks import FPN_CARAFE  # noqa: E402
from mmdet.models.roi_heads import SingleRoIExtractor  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmseg.models.decode_heads import PSAHead  # noqa: E402

# mmcv's own call of torch.addmm
pytestmark = pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated")


def assert_all_learn(model, outputs):
    """The sum of the squares of the outputs reaches every parameter."""
    sum(output.square().sum() for output in outputs).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_carafe_neck_of_mmdet():
    upsampling = dict(
        type="carafe",
        up_kernel=5,
        up_group=1,
        encoder_kernel=3,
        encoder_dilation=1,
        compressed_channels=4,
    )
    neck = FPN_CARAFE([4, 6, 8], 8, 3, upsample_cfg=upsampling)
    neck.init_weights()
    levels = neck([torch.rand(1, c, s, s) for c, s in ((4, 16), (6, 8), (8, 4))])
    assert [tuple(level.shape) for level in levels] == [(1, 8, s, s) for s in (16, 8, 4)]
    assert_all_learn(neck, levels)


@pytest.mark.parametrize("layer", ["DeformRoIPoolPack", "ModulatedDeformRoIPoolPack"])
def test_deformable_roi_pooling_of_mmdet(layer):
    roi_layer = dict(type=layer, output_size=7, output_channels=4, deform_fc_channels=8)
    extractor = SingleRoIExtractor(roi_layer, out_channels=4, featmap_strides=[4, 8])
    levels = [torch.rand(2, 4, size, size, requires_grad=True) for size in (24, 12)]
    rois = torch.tensor([[0, 10.0, 10, 60, 50], [1, 0, 0, 95, 90], [1, 4, 4, 300, 400]])
    pooled = extractor(levels, rois)
    assert pooled.shape == (3, 4, 7, 7)
    pooled.square().sum().backward()
    assert all(level.grad.any() for level in levels)


def test_guided_anchoring_of_mmdet_predicts_at_the_masked_positions():
    with DefaultScope.overwrite_default_scope("mmdet"):
        head = GARPNHead(in_channels=8, feat_channels=8, num_classes=1).eval()
    features = torch.rand(1, 8, 6, 7)
    with torch.no_grad():
        head.loc_filter_thr = 0.0
        everywhere = head.forward_single(features)
        location = everywhere[3].sigmoid()
        head.loc_filter_thr = float(location.median())
        at_some = head.forward_single(features)
    kept = location >= head.loc_filter_thr
    assert 0 < kept.sum() < kept.numel()
    for masked, whole in zip(at_some[:2], everywhere[:2], strict=True):
        torch.testing.assert_close(masked, whole * kept)


@pytest.mark.parametrize("psa_type", ["bi-direction", "collect", "distribute"])
def test_psanet_of_mmsegmentation(psa_type):
    with DefaultScope.overwrite_default_scope("mmseg"):
        head = PSAHead(
            mask_size=(7, 7),
            psa_type=psa_type,
            in_channels=4,
            channels=4,
            num_classes=3,
            norm_cfg=dict(type="BN"),
            dropout_ratio=0,
        )
    head.init_weights()
    logits = head([torch.rand(2, 4, 8, 10)])
    assert logits.shape == (2, 3, 8, 10)
    assert_all_learn(head, [logits])
