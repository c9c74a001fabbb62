"""The network as plain torch modules: arch table, trunk, pyramid, checkpoint keys (floor 2)."""

from xcit_dense.models.arch import ARCHS, Arch, resolve_arch
from xcit_dense.models.checkpoint_keys import convert_state_dict, unwrap_checkpoint
from xcit_dense.models.inference import optimize_for_inference
from xcit_dense.models.pyramid import STRIDES, Pyramid
from xcit_dense.models.trunk import Trunk

__all__ = [
    "ARCHS",
    "STRIDES",
    "Arch",
    "Pyramid",
    "Trunk",
    "convert_state_dict",
    "optimize_for_inference",
    "resolve_arch",
    "unwrap_checkpoint",
]
