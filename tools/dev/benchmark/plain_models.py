"""XCiT without OpenMMLab and without the engine: timm's port, and this package's modules."""

from collections.abc import Callable, Sequence

import timm
from torch import Tensor, nn

from xcit_dense.network import Pyramid, Trunk, resolve_arch
from xcit_dense.network.trunk import pad_to_multiple


class PlainXCiT(nn.Module):
    """Trunk and pyramid as the registered ``XCiT`` joins them, without its engine."""

    def __init__(
        self, arch: str | dict, patch_size: int, attention: str, with_cp: bool = False
    ) -> None:
        super().__init__()
        size = resolve_arch(arch)
        self.trunk = Trunk(size, patch_size, attention=attention, with_cp=with_cp)
        self.pyramid = Pyramid(size.embed_dims, patch_size)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image (B, 3, H, W) to a pyramid of strides 4, 8, 16 and 32."""
        return self.pyramid(self.trunk(image), image.shape[-2:])


class TimmXCiT(nn.Module):
    """Stem, position encoding and blocks of timm, and a pyramid on their taps."""

    def __init__(
        self, arch: str, patch_size: int, pyramid: Callable[[int, int], nn.Module] = Pyramid
    ) -> None:
        super().__init__()
        size = resolve_arch(arch)
        self.patch_size, self.out_indices = patch_size, list(size.out_indices)
        self.trunk = timm.create_model(f"xcit_{arch}_p{patch_size}_224", num_classes=0)
        # Class attention has no part in dense prediction, so it must not count either.
        del self.trunk.cls_attn_blocks, self.trunk.norm, self.trunk.cls_token
        self.pyramid = pyramid(size.embed_dims, patch_size)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image (B, 3, H, W) to a pyramid of strides 4, 8, 16 and 32."""
        padded = pad_to_multiple(image, self.patch_size)
        grid = [side // self.patch_size for side in padded.shape[-2:]]
        taps = self.trunk.forward_intermediates(
            padded, self.out_indices, output_fmt="NLC", intermediates_only=True
        )
        maps = [tap.transpose(1, 2).unflatten(2, grid) for tap in taps]
        return self.pyramid(maps, image.shape[-2:])


class ReleasePyramid(nn.Module):
    """The pyramid of the paper's release for dense tasks, written the plain way."""

    def __init__(self, embed_dims: int, patch_size: int) -> None:
        super().__init__()

        def doubled() -> nn.Module:
            return nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2)

        if patch_size == 16:
            twice = nn.Sequential(doubled(), nn.BatchNorm2d(embed_dims), nn.GELU(), doubled())
            levels = [twice, nn.Sequential(doubled()), nn.Identity(), nn.MaxPool2d(2)]
        else:
            levels = [nn.Sequential(doubled()), nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(4)]
        self.levels = nn.ModuleList(levels)

    def forward(self, maps: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Rescale the maps; what was padded to whole patches stays."""
        return tuple(level(tap) for level, tap in zip(self.levels, maps, strict=True))
