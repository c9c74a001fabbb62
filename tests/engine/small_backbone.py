"""The registered backbone without OpenMMLab, small, with weights that make a mistake visible."""

import torch
from torch import nn

from xcit_dense.engine import levels_by_engine
from xcit_dense.network import Pyramid, Trunk, resolve_arch

ARCH = dict(embed_dims=32, depth=4, num_heads=4, eta=0.5)


class Backbone(nn.Module):
    """The engine runs the gram form of any image, "auto" of large ones only."""

    def __init__(
        self,
        attention="gram",
        patch_size=16,
        norm_layer=nn.BatchNorm2d,
        out_strides=(4, 8, 16, 32),
        **options,
    ):
        super().__init__()
        arch = resolve_arch(ARCH, num_levels=len(out_strides))
        self.trunk = Trunk(arch, patch_size, attention=attention, norm_layer=norm_layer, **options)
        self.pyramid = Pyramid(32, patch_size, norm_layer, out_strides)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                if module.track_running_stats:
                    nn.init.normal_(module.running_mean, std=0.3)
                    nn.init.uniform_(module.running_var, 0.5, 2)
                if module.affine:
                    nn.init.uniform_(module.weight, -1, 1)
                    nn.init.normal_(module.bias)
        for name, parameter in self.named_parameters():
            if "scale" in name or "temperature" in name:
                nn.init.uniform_(parameter, 0.3, 1)
        self.eval()

    def by_engine(self, image):
        return levels_by_engine(self.trunk, self.pyramid, image)

    def plain(self, image):
        return self.pyramid(self.trunk(image), image.shape[-2:])

    def forward(self, image):
        return self.by_engine(image) or self.plain(image)


def difference(found, expected):
    """The largest difference of levels, in parts of the largest value of each."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
    pairs = zip(found, expected, strict=True)
    return max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)


def double(out):
    """Twice what a module gives, a tensor or several."""
    return [2 * one for one in out] if isinstance(out, list | tuple) else 2 * out


def loss_of(levels):
    """A number that depends on every level."""
    return sum(level.square().mean() for level in levels)


IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
