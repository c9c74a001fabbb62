"""XCiT backbones for dense prediction: feature pyramids at a cost linear in the tokens.

``import xcit_dense`` registers the backbone ``XCiT`` with OpenMMLab's registries and, where mmcv
lacks its compiled ops, serves them; and it adds the names ``xcit_dense_...`` to timm's registry.
Nothing else of others changes. :func:`create_backbone` and timm's models need no OpenMMLab.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from xcit_dense import timm_models  # noqa: F401
from xcit_dense.backbone import create_backbone
from xcit_dense.engine import optimize_for_inference
from xcit_dense.weights import convert_state_dict

try:
    __version__ = version("xcit_dense")
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0+source"

__all__ = [
    "XCiT",
    "__version__",
    "convert_state_dict",
    "create_backbone",
    "optimize_for_inference",
    "swap_backbone",
]

HAS_OPENMMLAB = all(map(find_spec, ("mmengine", "mmcv")))

if HAS_OPENMMLAB:
    from xcit_dense import mmcv_ops

    mmcv_ops.install()  # first: mmcv's own modules look for their ops when they are imported
    from xcit_dense.mm.backbone import XCiT


def __getattr__(name: str) -> Any:
    if name not in ("XCiT", "swap_backbone"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not HAS_OPENMMLAB:
        raise ImportError(
            f"xcit_dense.{name} needs OpenMMLab: pip install 'xcit_dense[openmmlab]', or "
            "[onedl]; xcit_dense.create_backbone does without"
        )
    from xcit_dense.swap import swap_backbone  # here: it needs mmdet or mmseg

    return swap_backbone
