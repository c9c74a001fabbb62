"""Pure functions on tensors, without parameters (floor 0)."""

from xcit_dense.ops.attention_form import FORMS, choose_form
from xcit_dense.ops.chunks import downscale_in_bands, first_chunk, map_in_bands, map_in_chunks
from xcit_dense.ops.convolution import Convolution
from xcit_dense.ops.cross_covariance import cross_covariance_attention
from xcit_dense.ops.fourier import fourier_position_codes
from xcit_dense.ops.linear import goes_through_onednn, linear
from xcit_dense.ops.prepared_linear import prepared_linear
from xcit_dense.ops.recompute import after_cheap
from xcit_dense.ops.recording import is_recorded, is_traced
from xcit_dense.ops.spatial import crop_map, map_to_tokens, pad_to_multiple, tokens_to_map
from xcit_dense.ops.token_norm import NO_NORM, NoNorm, TokenNorm
from xcit_dense.ops.upsampling import children_weights, upsample

__all__ = [
    "FORMS",
    "NO_NORM",
    "Convolution",
    "NoNorm",
    "TokenNorm",
    "after_cheap",
    "children_weights",
    "choose_form",
    "crop_map",
    "cross_covariance_attention",
    "downscale_in_bands",
    "first_chunk",
    "fourier_position_codes",
    "goes_through_onednn",
    "is_recorded",
    "is_traced",
    "linear",
    "map_in_bands",
    "map_in_chunks",
    "map_to_tokens",
    "pad_to_multiple",
    "prepared_linear",
    "tokens_to_map",
    "upsample",
]
