"""The table of contenders.

A builder imports what it needs when it is called, in the contender's own process: that process may
look at another checkout of ``xcit_dense``, and a missing library fails only who uses it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

INFERENCE, TRAINING = MODES = ("inference", "training")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Contender:
    """A network to measure."""

    name: str
    build: Callable[[str | dict, int], nn.Module]  # from an XCiT architecture and a patch size
    dtype: str = "fp32"  # others by autocast
    checkout: Path | None = None  # what its process imports from before anything else

    @property
    def label(self) -> str:
        """How tables call it, and the command line."""
        dtype = "" if self.dtype == "fp32" else f":{self.dtype}"
        return f"{self.name}{dtype}@{self.checkout}" if self.checkout else f"{self.name}{dtype}"


def xcit(arch: str | dict, patch_size: int, attention: str = "auto") -> nn.Module:
    """This package's backbone as a config builds it; without OpenMMLab, its plain modules."""
    if not find_spec("mmengine"):
        from dev.benchmark.plain_models import PlainXCiT

        return PlainXCiT(arch, patch_size, attention)
    from mmengine.registry import MODELS

    import xcit_dense  # noqa: F401  (registers XCiT)

    return MODELS.build(dict(type="XCiT", arch=arch, patch_size=patch_size, attention=attention))


def optimized_xcit(arch: str | dict, patch_size: int) -> nn.Module:
    """This package's backbone after ``optimize_for_inference``."""
    from xcit_dense import optimize_for_inference

    return optimize_for_inference(xcit(arch, patch_size).eval())


def timm_xcit(arch: str, patch_size: int, pyramid: str = "Pyramid") -> nn.Module:
    """The published arithmetic with this package's pyramid, or with the release's."""
    from dev.benchmark import plain_models

    return plain_models.TimmXCiT(arch, patch_size, getattr(plain_models, pyramid))


def peer(name: str, *_: object, **settings: object) -> nn.Module:
    """The four levels of another backbone, by timm."""
    import timm

    return timm.create_model(name, features_only=True, **settings)


def compiled(build: Callable[[str, int], nn.Module], arch: str, patch_size: int) -> nn.Module:
    """What another builder makes, through ``torch.compile``."""
    return torch.compile(build(arch, patch_size))


_SWIN = dict(strict_img_size=False, drop_path_rate=0.0)

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("xcit_auto", xcit),
        Contender("xcit_gram", partial(xcit, attention="gram")),
        Contender("xcit_direct", partial(xcit, attention="direct")),
        Contender("xcit_optimized", optimized_xcit),
        Contender("xcit_compiled", partial(compiled, xcit)),
        Contender("timm_xcit", timm_xcit),
        Contender("timm_xcit_plain", partial(timm_xcit, pyramid="ReleasePyramid")),
        Contender("timm_xcit_compiled", partial(compiled, timm_xcit)),
        Contender("resnet50", partial(peer, "resnet50", out_indices=(1, 2, 3, 4))),
        Contender("swin_tiny", partial(peer, "swin_tiny_patch4_window7_224", **_SWIN)),
        Contender("convnext_tiny", partial(peer, "convnext_tiny")),
        Contender("pvtv2_b2", partial(peer, "pvt_v2_b2")),
    )
}
