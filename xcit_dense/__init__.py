"""XCiT backbones for dense prediction: feature pyramids at a cost linear in the tokens.

``import xcit_dense`` registers the backbone ``XCiT`` with OpenMMLab's registries and, where mmcv
lacks its compiled ops, serves them. Nothing else of others changes.
Without OpenMMLab installed the plain torch modules under ``xcit_dense.network`` still work.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from xcit_dense.engine import optimize_for_inference
from xcit_dense.weights import convert_state_dict

try:
    __version__ = version("xcit_dense")
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0+source"

__all__ = ["XCiT", "__version__", "convert_state_dict", "optimize_for_inference", "swap_backbone"]

if find_spec("mmengine"):
    from xcit_dense import mmcv_ops

    mmcv_ops.install()  # first: mmcv's own modules look for their ops when they are imported
    from xcit_dense.mm.backbone import XCiT


def __getattr__(name: str) -> Any:
    if name not in ("XCiT", "swap_backbone"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not find_spec("mmengine"):
        raise ImportError(
            f"xcit_dense.{name} needs OpenMMLab: pip install 'xcit_dense[openmmlab]', or "
            "[onedl]; without it, build xcit_dense.network.Trunk and Pyramid"
        )
    from xcit_dense.swap import swap_backbone  # here: it needs mmdet or mmseg

    return swap_backbone
