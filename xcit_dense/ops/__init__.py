"""Pure functions on tensors, without parameters (floor 0)."""

from xcit_dense.ops.cross_covariance import cross_covariance_attention
from xcit_dense.ops.fourier import fourier_position_grid
from xcit_dense.ops.spatial import crop_map, map_to_tokens, pad_to_multiple, tokens_to_map

__all__ = [
    "crop_map",
    "cross_covariance_attention",
    "fourier_position_grid",
    "map_to_tokens",
    "pad_to_multiple",
    "tokens_to_map",
]
