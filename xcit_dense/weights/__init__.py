"""Published weights: fetching and reading them, their names, and fitting them to a backbone."""

from xcit_dense.weights.checkpoint_fit import (
    CheckpointIdentity,
    FittedTensors,
    LoadReport,
    compare,
    fit_tensors,
    identify,
)
from xcit_dense.weights.checkpoint_keys import (
    NAMINGS,
    backbone_prefix,
    backbone_tensors,
    convert_state_dict,
    rename_state_dict,
)
from xcit_dense.weights.published_weights import load_checkpoint
from xcit_dense.weights.safe_loading import unwrap_checkpoint

__all__ = [
    "NAMINGS",
    "CheckpointIdentity",
    "FittedTensors",
    "LoadReport",
    "backbone_prefix",
    "backbone_tensors",
    "compare",
    "convert_state_dict",
    "fit_tensors",
    "identify",
    "load_checkpoint",
    "rename_state_dict",
    "unwrap_checkpoint",
]
