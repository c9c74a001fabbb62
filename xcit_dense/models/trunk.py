"""The trunk: stem, position encoding and blocks, all at one resolution."""

from collections.abc import Callable, Iterator

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from xcit_dense.layers import (
    Block,
    ConvolutionalPatchEmbedding,
    FourierPositionEncoding,
    run_checkpointed,
)
from xcit_dense.layers.patch_embedding import PATCH_SIZES
from xcit_dense.models.arch import Arch
from xcit_dense.ops import map_to_tokens, tokens_to_map


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
            )
            # a block that nothing taps would never receive a gradient
            for _ in range(arch.out_indices[-1] + 1)
        )
        self.apply(_init_weights)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, in_channels, H, W), H and W multiples of the patch size P.

        Returns:
            The map after each tapped block, each (B, C, H / P, W / P).

        Raises:
            ValueError: the image has another shape or number of channels.
        """
        return list(self.taps(image))

    def taps(self, image: Tensor) -> Iterator[Tensor]:
        """What :meth:`forward` returns, one map after the other.

        Whoever is done with a map before asking for the next need not keep it.
        """
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"image of shape {tuple(image.shape)}: expected (B, {self.in_channels}, H, W); "
                "for images of other channels build the backbone with in_channels=..."
            )
        feature_map = self.patch_embedding(image)
        height, width = feature_map.shape[-2:]
        feature_map = feature_map + self.position_encoding(height, width)
        tokens = map_to_tokens(feature_map).contiguous()
        del feature_map

        scratch = None if torch.is_grad_enabled() else []
        for index, block in enumerate(self.blocks):
            if self.with_cp and torch.is_grad_enabled():
                tokens = run_checkpointed(block, tokens, height, width)
            else:
                tokens = block(tokens, height, width, scratch, self._may_overwrite_input(index))
            if index in self.out_indices:
                yield tokens_to_map(tokens, height, width)

    def _may_overwrite_input(self, index: int) -> bool:
        """Whether nobody needs the input of a block any more: no gradient, tap or hook."""
        if torch.is_grad_enabled() or index - 1 in self.out_indices:
            return False
        if self.blocks[index]._forward_pre_hooks or self.blocks[index]._forward_hooks:
            return False
        return index == 0 or not self.blocks[index - 1]._forward_hooks


def _init_weights(module: nn.Module) -> None:
    """Start linear layers as the paper's release does; the rest starts as torch does."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
