"""Which XCiT a checkpoint holds, read off the shapes of its tensors."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from xcit_dense.network.architectures import ARCHS, Arch

STEM_WEIGHT = "trunk.patch_embedding.0.0.weight"
_STEM_WEIGHTS = re.compile(r"trunk\.patch_embedding\.\d+\.0\.weight$")
_TEMPERATURE = "trunk.blocks.0.attention.temperature"
_BLOCK = re.compile(r"trunk\.blocks\.(\d+)\.")


class CheckpointMismatchError(ValueError):
    """A checkpoint does not belong to the model that is to take it."""


@dataclass(frozen=True)
class CheckpointIdentity:
    """The sizes of a trunk that its tensors tell.

    Attributes:
        embed_dims: width C of a token.
        depth: number of blocks.
        num_heads: heads of the attention.
        patch_size: side of a patch, in pixels.
        in_channels: channels of the image.
    """

    embed_dims: int
    depth: int
    num_heads: int
    patch_size: int
    in_channels: int = 3

    @classmethod
    def of(cls, arch: Arch, patch_size: int, in_channels: int) -> "CheckpointIdentity":
        """The identity of the whole network of an architecture."""
        return cls(arch.embed_dims, arch.depth, arch.num_heads, patch_size, in_channels)

    @property
    def arch_name(self) -> str | None:
        """The name of the architecture; None for one that has no name."""
        for name, arch in ARCHS.items():
            if self._sizes == (arch.embed_dims, arch.depth, arch.num_heads):
                return name
        return None

    def __str__(self) -> str:
        """For instance ``small_12/16``; an architecture without a name by its sizes."""
        if self.arch_name:
            return f"{self.arch_name}/{self.patch_size}"
        embed_dims, depth, num_heads = self._sizes
        return (
            f"XCiT(embed_dims={embed_dims}, depth={depth}, num_heads={num_heads})/{self.patch_size}"
        )

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self.embed_dims, self.depth, self.num_heads

    def check_fits(self, wanted: "CheckpointIdentity", num_blocks: int) -> None:
        """See that a checkpoint of this identity can fill a backbone.

        Image channels may differ: they can be adapted. So may the depth, where the backbone ends
        with the last block that its pyramid taps.

        Args:
            wanted: the whole network that the config describes.
            num_blocks: how many of its blocks, from the first on, the backbone has.

        Raises:
            CheckpointMismatchError: it is a checkpoint of another network.
        """
        mine, theirs = asdict(self), asdict(wanted)
        fixed = ("embed_dims", "num_heads", "patch_size")
        differing = [name for name in fixed if mine[name] != theirs[name]]
        if not num_blocks <= self.depth <= wanted.depth:
            differing.append("depth")
        if not differing:
            return
        differences = ", ".join(f"{name} {mine[name]}, not {theirs[name]}" for name in differing)
        raise CheckpointMismatchError(
            f"the checkpoint is of another network: this is {self}; the config builds {wanted} "
            f"({differences}). Take weights of {wanted}, or set {self._as_config()} in the backbone"
        )

    def _as_config(self) -> str:
        embed_dims, depth, num_heads = self._sizes
        sizes = f"dict(embed_dims={embed_dims}, depth={depth}, num_heads={num_heads}, eta=1.0)"
        arch = repr(self.arch_name) if self.arch_name else sizes
        return f"arch={arch}, patch_size={self.patch_size}"


def identify(state_dict: Mapping[str, Tensor]) -> CheckpointIdentity | None:
    """Read the identity off a state dict of the backbone under our names.

    Args:
        state_dict: tensors by our names, see :func:`~xcit_dense.weights.convert_state_dict`.

    Returns:
        The identity; None where the stem or the first block is missing, so that it is no XCiT or
        only a part of one.
    """
    if STEM_WEIGHT not in state_dict or _TEMPERATURE not in state_dict:
        return None
    stem_weights = [key for key in state_dict if _STEM_WEIGHTS.match(key)]
    blocks = {int(match[1]) for match in map(_BLOCK.match, state_dict) if match}
    num_heads = state_dict[_TEMPERATURE].shape[0]
    # the stem halves the resolution and doubles the width with every convolution
    narrowest, in_channels = state_dict[STEM_WEIGHT].shape[:2]
    return CheckpointIdentity(
        embed_dims=narrowest * 2 ** (len(stem_weights) - 1),
        depth=max(blocks) + 1,
        num_heads=num_heads,
        patch_size=2 ** len(stem_weights),
        in_channels=in_channels,
    )
