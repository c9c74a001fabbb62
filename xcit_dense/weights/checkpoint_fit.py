"""Which XCiT a checkpoint holds, fitting it to a backbone, and saying what a model took of it."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from xcit_dense.errors import UserError
from xcit_dense.network.architectures import ARCHS, Arch
from xcit_dense.weights.checkpoint_keys import classification_part, rename_key

_STEM_WEIGHT = "trunk.patch_embedding.0.0.weight"
_STEM_WEIGHTS = re.compile(r"trunk\.patch_embedding\.\d+\.0\.weight$")
_TEMPERATURE = "trunk.blocks.0.attention.temperature"
_BLOCK = re.compile(r"trunk\.blocks\.(\d+)\.")
_MOST_NAMES = 4


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

    def __str__(self) -> str:
        """For instance ``small_12/16``; an architecture without a name by its sizes."""
        sizes = self.embed_dims, self.depth, self.num_heads
        for name, arch in ARCHS.items():
            if sizes == (arch.embed_dims, arch.depth, arch.num_heads):
                return f"{name}/{self.patch_size}"
        return "XCiT(embed_dims={}, depth={}, num_heads={})".format(*sizes) + f"/{self.patch_size}"

    def check_fits(self, wanted: "CheckpointIdentity", num_blocks: int) -> None:
        """See that a checkpoint of this identity can fill a backbone.

        Image channels may differ: they can be adapted. So may the depth, where the backbone ends
        with the last block that its pyramid taps.

        Args:
            wanted: the whole network that the backbone is of.
            num_blocks: how many of its blocks, from the first on, the backbone has.

        Raises:
            UserError: it is a checkpoint of another network.
        """
        fixed = ("embed_dims", "num_heads", "patch_size")
        is_same = all(getattr(self, name) == getattr(wanted, name) for name in fixed)
        if not is_same or not num_blocks <= self.depth <= wanted.depth:
            raise UserError(
                f"the checkpoint is of another network: this is {self}; the backbone is {wanted}."
                f" Take weights of {wanted}, or set arch and patch_size of the backbone to {self}"
            )


def identify(state_dict: Mapping[str, Tensor]) -> CheckpointIdentity | None:
    """Read the identity off a state dict of the backbone under our names.

    Args:
        state_dict: tensors by our names, see :func:`~xcit_dense.weights.convert_state_dict`.

    Returns:
        The identity; None where the stem or the first block is missing, so that it is no XCiT or
        only a part of one.
    """
    if _STEM_WEIGHT not in state_dict or _TEMPERATURE not in state_dict:
        return None
    num_convolutions = sum(_STEM_WEIGHTS.match(key) is not None for key in state_dict)
    blocks = [int(match[1]) for match in map(_BLOCK.match, state_dict) if match]
    # the stem halves the resolution and doubles the width with every convolution
    narrowest, in_channels = state_dict[_STEM_WEIGHT].shape[:2]
    return CheckpointIdentity(
        embed_dims=narrowest * 2 ** (num_convolutions - 1),
        depth=max(blocks) + 1,
        num_heads=state_dict[_TEMPERATURE].shape[0],
        patch_size=2**num_convolutions,
        in_channels=in_channels,
    )


def adapt_image_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Fit the first convolution of a pretrained network to another number of image channels.

    For more channels the given ones are dealt out in turn (R G B R G ...), and the copies of a
    channel share its weight equally. For fewer they are added up in turn (for 2: R + B, G). An
    image whose channels are all equal gives the same response as before.

    Args:
        weight: weight (C, channels, kH, kW) of the convolution.
        in_channels: wanted number of channels.

    Returns:
        Weight (C, in_channels, kH, kW).
    """
    given = weight.shape[1]
    if in_channels >= given:
        source = torch.arange(in_channels, device=weight.device) % given
        copies = torch.bincount(source)[source].to(weight.dtype)
        return weight[:, source] / copies.view(1, -1, 1, 1)
    target = torch.arange(given, device=weight.device) % in_channels
    adapted = weight.new_zeros(weight.shape[0], in_channels, *weight.shape[2:])
    return adapted.index_add(1, target, weight)


class FittedTensors(NamedTuple):
    """Tensors of a checkpoint as a backbone takes them.

    Attributes:
        state_dict: tensors by our names.
        notes: what was done beyond renaming, a sentence each; empty for our own checkpoints.
    """

    state_dict: dict[str, Tensor]
    notes: list[str]


def fit_tensors(
    tensors: Mapping[str, Tensor], wanted: CheckpointIdentity, num_blocks: int
) -> FittedTensors:
    """Rename published tensors, leave out what a backbone has no place for, adapt channels.

    Args:
        tensors: tensors of the backbone by published names or by ours, without a prefix.
        wanted: the network that the backbone is of.
        num_blocks: how many of its blocks the backbone has; it ends with the last tapped one.

    Raises:
        UserError: the tensors are of another network.
    """
    renamed = {rename_key(name): tensor for name, tensor in tensors.items()}
    fitted, left_out = FittedTensors({}, []), Counter()
    for name, tensor in renamed.items():
        block = _BLOCK.match(name)
        if part := classification_part(name):
            left_out[part] += 1
        elif block and int(block[1]) >= num_blocks:
            left_out["blocks behind the last tap"] += 1
        else:
            fitted.state_dict[name] = tensor
    if left_out:
        parts = ", ".join(f"{number} of {part}" for part, number in left_out.items())
        fitted.notes.append(f"left out on purpose: {parts}")
    if found := identify(renamed):
        found.check_fits(wanted, num_blocks)
        given, channels = found.in_channels, wanted.in_channels
        if given != channels:
            stem = fitted.state_dict[_STEM_WEIGHT]
            fitted.state_dict[_STEM_WEIGHT] = adapt_image_channels(stem, channels)
            fitted.notes.append(
                f"first convolution adapted from {given} to {channels} image channels"
            )
    return fitted


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a model a checkpoint fills, and which it does not.

    Attributes:
        model_names: names of the model's tensors.
        missing: names that only the model has; they keep the values they start with.
        unexpected: names that only the checkpoint has.
        reshaped: of tensors that have another shape in the checkpoint, such as the classifier of a
            head for other classes, names and both shapes; they are not loaded.
    """

    model_names: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, str]

    @property
    def is_complete(self) -> bool:
        """Whether model and checkpoint have the same tensors."""
        return not (self.missing or self.unexpected or self.reshaped)

    @property
    def num_loaded(self) -> int:
        """How many tensors of the model the checkpoint fills."""
        return len(self.model_names) - len(self.missing) - len(self.reshaped)

    def __str__(self) -> str:
        """A line for what is loaded, part by part, and one for each kind of difference."""
        totals = Counter(name.partition(".")[0] for name in self.model_names)
        lacking = Counter(name.partition(".")[0] for name in (*self.missing, *self.reshaped))
        parts = ", ".join(f"{part} {num - lacking[part]}/{num}" for part, num in totals.items())
        lines = [f"{self.num_loaded} of {len(self.model_names)} tensors loaded ({parts})"]
        differences = {
            "of another shape, not loaded": self.reshaped.values(),
            "not in the checkpoint": self.missing,
            "not in the model": self.unexpected,
        }
        for what, names in differences.items():
            if names:
                more = f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES)
                lines.append(f"{what}: {', '.join(islice(names, _MOST_NAMES))}{more}")
        return "\n  ".join(lines)


def compare(model_tensors: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Compare a model's tensors with those of a checkpoint that has the same naming.

    How many batches a norm has seen is no weight: where only that is missing nothing is.
    """
    counted = {
        name: tensor
        for name, tensor in model_tensors.items()
        if name in state_dict or not name.endswith("num_batches_tracked")
    }
    return LoadReport(
        model_names=list(counted),
        missing=[name for name in counted if name not in state_dict],
        unexpected=[name for name in state_dict if name not in counted],
        reshaped={
            name: f"{name} {tuple(state_dict[name].shape)}, in the model {tuple(tensor.shape)}"
            for name, tensor in counted.items()
            if name in state_dict and state_dict[name].shape != tensor.shape
        },
    )
