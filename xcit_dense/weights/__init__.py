"""Published weights: names, what network they are of, fitting them to a backbone, and saying so."""

from xcit_dense.weights.checkpoint_fit import FittedTensors, fit_tensors
from xcit_dense.weights.checkpoint_identity import (
    CheckpointIdentity,
    CheckpointMismatchError,
    identify,
)
from xcit_dense.weights.checkpoint_keys import (
    NAMINGS,
    backbone_prefix,
    backbone_tensors,
    convert_state_dict,
    rename_state_dict,
    unwrap_checkpoint,
)
from xcit_dense.weights.image_channels import adapt_image_channels
from xcit_dense.weights.load_report import LoadReport, compare

__all__ = [
    "NAMINGS",
    "CheckpointIdentity",
    "CheckpointMismatchError",
    "FittedTensors",
    "LoadReport",
    "adapt_image_channels",
    "backbone_prefix",
    "backbone_tensors",
    "compare",
    "convert_state_dict",
    "fit_tensors",
    "identify",
    "rename_state_dict",
    "unwrap_checkpoint",
]
