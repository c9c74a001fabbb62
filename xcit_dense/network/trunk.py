"""The trunk: stem, position encoding and blocks, all at one resolution."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.compiler import is_compiling

from xcit_dense.network.architectures import Arch
from xcit_dense.network.block import Block
from xcit_dense.network.calling import again, is_transformed
from xcit_dense.network.position import FourierPositionEncoding
from xcit_dense.network.stem import PATCH_SIZES, ConvolutionalPatchEmbedding

_TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


class Trunk(nn.Module):
    """XCiT without class attention; gives the map after each tapped block.

    Source: XCiT paper, section 3.3; the taps are those of its dense-prediction release.

    Args:
        arch: size of the trunk and the blocks to tap.
        patch_size: 8 or 16, the stride of all the maps.
        in_channels: channels of the image.
        drop_path_rate: probability with which a sample skips a branch in training, the same in
            every block.
        norm_layer: makes the norm of a map from its number of channels.
        with_cp: trade time for memory in training: keep only the input of each block and compute
            the rest again in backward.
        attention: how attention is computed, ``auto``, ``gram`` or ``direct``.

    Raises:
        ValueError: the patch size is not one of 8 and 16, or the stem cannot double its width up
            to ``arch.embed_dims``.
    """

    def __init__(
        self,
        arch: Arch,
        patch_size: int = 16,
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
        with_cp: bool = False,
        attention: str = "auto",
    ) -> None:
        super().__init__()
        if patch_size not in PATCH_SIZES:
            raise ValueError(f"patch_size={patch_size!r}: must be one of {PATCH_SIZES}")
        if arch.embed_dims % (patch_size // 2):
            raise ValueError(
                f"embed_dims={arch.embed_dims} is not divisible by {patch_size // 2}: the stem of "
                f"patch size {patch_size} halves the width that often"
            )
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.out_indices = arch.out_indices
        self.embed_dims = arch.embed_dims
        self.attention = attention
        self.with_cp = with_cp

        self.patch_embedding = ConvolutionalPatchEmbedding(
            patch_size, in_channels, arch.embed_dims, norm_layer
        )
        self.position_encoding = FourierPositionEncoding(arch.embed_dims)
        self.blocks = nn.ModuleList(
            Block(
                arch.embed_dims,
                arch.num_heads,
                eta=arch.eta,
                drop_path_rate=drop_path_rate,
                norm_layer=norm_layer,
                attention=attention,
                keep_less=not with_cp,
            )
            # a block that nothing taps would never receive a gradient
            for _ in range(arch.out_indices[-1] + 1)
        )
        self.apply(_init_weights)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, in_channels, H, W), any H and W.

        Returns:
            The map after each tapped block, each (B, C, ceil(H / P), ceil(W / P)) for the patch
            size P, in channels-last.

        Raises:
            ValueError: the image has another shape or number of channels.
        """
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"image of shape {tuple(image.shape)}: expected (B, {self.in_channels}, H, W); "
                "for images of other channels build the backbone with in_channels=..."
            )
        feature_map = self.patch_embedding(pad_to_multiple(image, self.patch_size))
        height, width = feature_map.shape[-2:]
        feature_map = feature_map + self.position_encoding(height, width)
        tokens = feature_map.permute(0, 2, 3, 1).flatten(1, 2)
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = self._run_block(block, tokens, height, width)
            if index in self.out_indices:
                maps.append(tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2))
        return maps

    def _run_block(self, block: Block, tokens: Tensor, height: int, width: int) -> Tensor:
        # older compilers let norms count a batch twice that is computed again
        may_keep_less = not is_transformed() and (_TORCH >= (2, 9) or not is_compiling())
        if not (self.with_cp and torch.is_grad_enabled() and may_keep_less):
            return block(tokens, height, width)
        return again(block, tokens, height, width, norms=block)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) with zeros, at the bottom and the right, to multiples of ``multiple``."""
    # not -side % multiple, which torch's compiler does not know for a size that is free
    bottom, right = (-(-side // multiple) * multiple - side for side in image.shape[-2:])
    return F.pad(image, (0, right, 0, bottom)) if bottom or right else image


def _init_weights(module: nn.Module) -> None:
    """Start linear layers as the paper's release does; the rest starts as torch does."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
