"""Published weights: fetching and reading them, their names, and fitting them to a backbone."""

from xcit_dense.weights.checkpoint_fit import (
    CheckpointIdentity,
    FittedTensors,
    compare,
    fit_tensors,
    identify,
)
from xcit_dense.weights.checkpoint_keys import (
    NAMINGS,
    backbone_prefix,
    backbone_tensors,
    classification_part,
    convert_state_dict,
    rename_key,
    rename_state_dict,
    split_class_attention,
    unwrap_checkpoint,
)

__all__ = [
    "NAMINGS",
    "CheckpointIdentity",
    "FittedTensors",
    "backbone_prefix",
    "backbone_tensors",
    "classification_part",
    "compare",
    "convert_state_dict",
    "fit_tensors",
    "identify",
    "rename_key",
    "rename_state_dict",
    "split_class_attention",
    "unwrap_checkpoint",
]
