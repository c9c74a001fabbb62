"""The parts of the network, one ``nn.Module`` an idea (floor 1)."""

from xcit_dense.layers.activation_checkpoint import run_checkpointed, untracked_statistics
from xcit_dense.layers.block import Block
from xcit_dense.layers.cross_covariance_attention import CrossCovarianceAttention
from xcit_dense.layers.feed_forward import FeedForward
from xcit_dense.layers.folded_norm import (
    convolution_then_norm,
    folded_weights,
    is_foldable,
    is_local,
)
from xcit_dense.layers.local_patch_interaction import LocalPatchInteraction
from xcit_dense.layers.patch_embedding import ConvolutionalPatchEmbedding
from xcit_dense.layers.position_encoding import FourierPositionEncoding

__all__ = [
    "Block",
    "ConvolutionalPatchEmbedding",
    "CrossCovarianceAttention",
    "FeedForward",
    "FourierPositionEncoding",
    "LocalPatchInteraction",
    "convolution_then_norm",
    "folded_weights",
    "is_foldable",
    "is_local",
    "run_checkpointed",
    "untracked_statistics",
]
