"""XCiT backbones for dense prediction: feature pyramids at a cost linear in the tokens.

``import xcit_dense`` registers the backbone ``XCiT`` with OpenMMLab's registries and, where mmcv
lacks its compiled ops, serves the common ones from torchvision. Without OpenMMLab installed the
plain torch modules under ``xcit_dense.network`` still work.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from xcit_dense.engine import optimize_for_inference
from xcit_dense.weights import convert_state_dict

try:
    __version__ = version("xcit_dense")
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0+source"

__all__ = ["__version__", "convert_state_dict", "optimize_for_inference"]

if find_spec("mmengine"):
    from xcit_dense.openmmlab import XCiT
    from xcit_dense.openmmlab.swap import swap_backbone

    __all__ += ["XCiT", "swap_backbone"]
else:

    def __getattr__(name: str) -> object:
        if name in ("XCiT", "swap_backbone"):
            raise ImportError(
                f"xcit_dense.{name} needs OpenMMLab: pip install 'xcit_dense[openmmlab]', or "
                "[onedl]; without it, build xcit_dense.network.Trunk and Pyramid"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
