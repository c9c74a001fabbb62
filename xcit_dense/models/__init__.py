"""The network as plain torch modules: arch table, trunk, pyramid, checkpoint keys (floor 2)."""

from xcit_dense.models.arch import ARCHS, Arch, resolve_arch
from xcit_dense.models.checkpoint_fit import FittedTensors, fit_tensors
from xcit_dense.models.checkpoint_identity import (
    CheckpointIdentity,
    CheckpointMismatchError,
    identify,
)
from xcit_dense.models.checkpoint_keys import (
    NAMINGS,
    backbone_prefix,
    backbone_tensors,
    convert_state_dict,
    rename_state_dict,
    unwrap_checkpoint,
)
from xcit_dense.models.image_channels import adapt_image_channels
from xcit_dense.models.inference import optimize_for_inference
from xcit_dense.models.load_report import LoadReport, compare
from xcit_dense.models.pyramid import STRIDES, Pyramid
from xcit_dense.models.trunk import Trunk

__all__ = [
    "ARCHS",
    "NAMINGS",
    "STRIDES",
    "Arch",
    "CheckpointIdentity",
    "CheckpointMismatchError",
    "FittedTensors",
    "LoadReport",
    "Pyramid",
    "Trunk",
    "adapt_image_channels",
    "backbone_prefix",
    "backbone_tensors",
    "compare",
    "convert_state_dict",
    "fit_tensors",
    "identify",
    "optimize_for_inference",
    "rename_state_dict",
    "resolve_arch",
    "unwrap_checkpoint",
]
