"""The network as plain torch modules that call their children, readable beside the paper."""

from xcit_dense.network.architectures import ARCHS, Arch, resolve_arch
from xcit_dense.network.attention import CrossCovarianceAttention
from xcit_dense.network.block import Block, FeedForward, LocalPatchInteraction
from xcit_dense.network.gram import Moments, Projections, mixing
from xcit_dense.network.position import FourierPositionEncoding, fourier_position_codes
from xcit_dense.network.pyramid import STRIDES, Pyramid, Upsample, check_out_strides
from xcit_dense.network.stem import ConvolutionalPatchEmbedding
from xcit_dense.network.trunk import Trunk

__all__ = [
    "ARCHS",
    "STRIDES",
    "Arch",
    "Block",
    "ConvolutionalPatchEmbedding",
    "CrossCovarianceAttention",
    "FeedForward",
    "FourierPositionEncoding",
    "LocalPatchInteraction",
    "Moments",
    "Projections",
    "Pyramid",
    "Trunk",
    "Upsample",
    "check_out_strides",
    "fourier_position_codes",
    "mixing",
    "resolve_arch",
]
