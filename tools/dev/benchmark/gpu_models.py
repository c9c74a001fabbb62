"""The models that the check on a GPU runs, built from plain torch and timm without OpenMMLab."""

from collections.abc import Sequence
from dataclasses import dataclass

import timm
import torch
from dev.benchmark.timm_xcit import TimmXCiT
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xcit_dense.network import Arch, Pyramid, Trunk, resolve_arch

# Compilers take a time that grows with the depth; every operation of the network is in four blocks.
SHALLOW = dict(embed_dims=128, depth=4, num_heads=4, eta=1.0)
CONVNETS = {"ResNet-50": "resnet50", "ConvNeXt-T": "convnext_tiny"}
FORMS = ("direct", "gram")


@dataclass(frozen=True)
class Setup:
    """What is checked and where.

    Attributes:
        device: ``cuda`` or ``cpu``.
        quick: the smallest architecture and tiny sizes.
    """

    device: str = "cuda"
    quick: bool = False

    @property
    def arch(self) -> str:
        """Name of the architecture."""
        return "nano_12" if self.quick else "small_12"

    @property
    def compiler(self) -> str:
        """Backend of torch.compile; the default one takes a minute a model on a CPU's core."""
        return "aot_eager" if self.quick else "inductor"

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def image(self, batch: int = 2, height: int = 0, width: int = 0) -> Tensor:
        """The same random image for every model of a size, float32 on the CPU."""
        height = height or (96 if self.quick else 224)
        width = width or (120 if self.quick else 312)  # not a multiple of the patch size
        return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


class Backbone(nn.Module):
    """Trunk and pyramid as the registered ``XCiT`` joins them, always run by the plain modules.

    Args:
        arch: name of the architecture, or a dict.
        attention: ``direct`` or ``gram``.
        with_cp: compute each block again in backward.
    """

    def __init__(self, arch: str | dict, attention: str, with_cp: bool = False) -> None:
        super().__init__()
        size = resolve_arch(arch)
        self.trunk = Trunk(size, attention=attention, with_cp=with_cp)
        self.pyramid = Pyramid(size.embed_dims, self.trunk.patch_size)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image (B, 3, H, W) to a pyramid of strides 4, 8, 16 and 32."""
        return self.pyramid(self.trunk(image), image.shape[-2:])


def random_backbone(arch: str | dict, form: str, with_cp: bool = False) -> Backbone:
    """A backbone in eval mode that is the same for every form, with nothing at its neutral value.

    Fresh norms and layer scales are ones and zeros, with which a forgotten factor goes unnoticed.
    """
    torch.manual_seed(0)
    return randomize(Backbone(arch, form, with_cp)).eval()


def randomize(model: nn.Module) -> nn.Module:
    """Draw norms, their statistics, layer scales and temperatures anew, in place."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.LayerNorm, nn.GroupNorm, _BatchNorm)):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
            if isinstance(module, _BatchNorm):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
        for name, parameter in model.named_parameters():
            if "layer_scale" in name or "temperature" in name:
                parameter.uniform_(0.3, 1.2, generator=generator)
    return model


def trunk_of_depth(depth: int, width: int, form: str, with_cp: bool) -> Trunk:
    """A trunk with nothing behind its last block, to see what one block more costs."""
    size = Arch(width, depth, num_heads=8, eta=1.0, out_indices=(depth - 1,))
    return Trunk(size, attention=form, with_cp=with_cp)


def contender(name: str, arch: str, height: int, width: int) -> nn.Module:
    """Build what is timed.

    Args:
        name: ``XCiT direct``, ``XCiT gram``, either followed by `` with_cp``, ``timm XCiT``,
            ``ResNet-50``, ``ConvNeXt-T`` or ``Swin-T``.
        arch: architecture of every XCiT.
        height: of the image, which only Swin wants to know.
        width: likewise.
    """
    torch.manual_seed(0)
    if name.startswith("XCiT "):
        return Backbone(arch, name.split()[1], with_cp=name.endswith("with_cp"))
    if name == "timm XCiT":
        return TimmXCiT(arch, 16)
    if name == "Swin-T":
        return timm.create_model(
            "swin_tiny_patch4_window7_224",
            features_only=True,
            img_size=(height, width),
            drop_path_rate=0.0,
        )
    # channels-last is the faster format for both on a GPU, and what XCiT computes in anyway
    model = timm.create_model(CONVNETS[name], features_only=True)
    return model.to(memory_format=torch.channels_last)


def relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """The largest difference in units of the largest number, for each pair; inf where not finite.

    Raises:
        ValueError: shapes differ.
    """
    errors = []
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            raise ValueError(f"shape {tuple(one.shape)}, expected {tuple(other.shape)}")
        one, other = one.detach().cpu().double(), other.detach().cpu().double()
        difference, size = (one - other).abs().max().item(), other.abs().max().item()
        error = difference / size if size else difference
        errors.append(error if torch.isfinite(one).all() else float("inf"))
    return errors
