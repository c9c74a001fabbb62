"""mmcv's layers, and the parts of mmdet and mmsegmentation, that call the served ops."""

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmcv.ops import CARAFEPack, DeformConv2dPack, ModulatedDeformConv2dPack
from mmdet.models.necks import FPN_CARAFE
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmseg.models.decode_heads import PSAHead

CARAFE = dict(up_kernel=3, up_group=1, encoder_kernel=3, encoder_dilation=1, compressed_channels=4)


def psa_head(psa_type):
    return PSAHead(
        mask_size=(7, 7),
        psa_type=psa_type,
        in_channels=4,
        channels=4,
        num_classes=3,
        norm_cfg=dict(type="BN"),
        dropout_ratio=0,
    )


LEVELS = [(2, 4, 16, 16), (2, 4, 8, 8)]
MODELS = {
    "DCN": (lambda: DeformConv2dPack(4, 6, 3, padding=1), LEVELS[:1]),
    "DCNv2": (lambda: ModulatedDeformConv2dPack(4, 6, 3, padding=1), LEVELS[:1]),
    "CARAFE": (lambda: CARAFEPack(4, 2, up_kernel=3, compressed_channels=3), LEVELS[:1]),
    "FPN_CARAFE": (
        lambda: FPN_CARAFE([4, 4], 8, 2, upsample_cfg=dict(type="carafe", **CARAFE)),
        LEVELS,
    ),
    "PSANet": (lambda: psa_head("bi-direction"), LEVELS[:1]),
}


@pytest.mark.parametrize("build, sizes", MODELS.values(), ids=MODELS)
def test_gradients_reach_all_inputs_and_parameters(build, sizes):
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = build()
    of_mm = isinstance(model, BaseModule)  # not a layer of mmcv
    if of_mm:
        model.init_weights()
    levels = [torch.rand(size, requires_grad=True) for size in sizes]
    output = model(levels if of_mm else levels[0])
    outputs = output if isinstance(output, tuple) else [output]
    sum(part.square().sum() for part in outputs).backward()
    assert all(level.grad.any() for level in levels)
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
