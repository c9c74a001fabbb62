"""How each contender is built: every function is called in the contender's own process.

What a contender needs is imported when it is built, so that importing the benchmark needs no
OpenMMLab and a missing library fails only the contenders that use it.
"""

from torch import nn


def xcit(arch: str | dict, patch_size: int, attention: str) -> nn.Module:
    """This package's backbone, as a config builds it."""
    from mmengine.registry import MODELS

    import xcit_dense  # noqa: F401  (registers XCiT)

    return MODELS.build(dict(type="XCiT", arch=arch, patch_size=patch_size, attention=attention))


def optimized_xcit(arch: str | dict, patch_size: int) -> nn.Module:
    """This package's backbone after ``optimize_for_inference``."""
    from xcit_dense import optimize_for_inference

    return optimize_for_inference(xcit(arch, patch_size, attention="auto").eval())


def timm_xcit(arch: str, patch_size: int) -> nn.Module:
    """The published arithmetic with this package's pyramid."""
    from dev.benchmark.timm_xcit import TimmXCiT

    return TimmXCiT(arch, patch_size)


def timm_xcit_plain(arch: str, patch_size: int) -> nn.Module:
    """The published arithmetic with the pyramid as the paper's release writes it."""
    from dev.benchmark.timm_xcit import PlainPyramid, TimmXCiT

    return TimmXCiT(arch, patch_size, pyramid=PlainPyramid)


def resnet50(arch: str, patch_size: int) -> nn.Module:
    """ResNet-50, all of it trained, batch norms too."""
    return _mmdet_backbone("ResNet", depth=50, norm_eval=False, frozen_stages=-1)


def swin_tiny(arch: str, patch_size: int) -> nn.Module:
    """Swin-T (Swin paper, section 3.3)."""
    return _mmdet_backbone(
        "SwinTransformer",
        embed_dims=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path_rate=0.0,
    )


def pvtv2_b2(arch: str, patch_size: int) -> nn.Module:
    """PVTv2-B2 (PVTv2 paper, table 1)."""
    return _mmdet_backbone(
        "PyramidVisionTransformerV2",
        embed_dims=64,
        num_layers=[3, 4, 6, 3],
        drop_path_rate=0.0,
    )


def convnext_tiny(arch: str, patch_size: int) -> nn.Module:
    """ConvNeXt-T."""
    import timm

    return timm.create_model("convnext_tiny", features_only=True)


def _mmdet_backbone(name: str, **settings: object) -> nn.Module:
    import xcit_dense  # noqa: F401  (first: it supplies the ops that mmcv may lack)

    # isort: split
    from mmdet.models import backbones

    return getattr(backbones, name)(**settings)
