"""Fitting the tensors of a checkpoint to a backbone, and saying what was done to them."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from xcit_dense.weights.checkpoint_identity import STEM_WEIGHT, CheckpointIdentity, identify
from xcit_dense.weights.checkpoint_keys import classification_part, rename_key
from xcit_dense.weights.image_channels import adapt_image_channels

_BLOCK = re.compile(r"trunk\.blocks\.(\d+)\.")


@dataclass
class FittedTensors:
    """Tensors of a checkpoint as a backbone takes them.

    Attributes:
        state_dict: tensors by our names.
        left_out: how many tensors were left out on purpose, by the part they belong to.
        channels: image channels of the checkpoint and of the backbone, where they were adapted.
    """

    state_dict: dict[str, Tensor] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    channels: tuple[int, int] | None = None

    def notes(self) -> list[str]:
        """What was done beyond renaming, a sentence each; empty for our own checkpoints."""
        notes = []
        if self.left_out:
            parts = ", ".join(f"{number} of {part}" for part, number in self.left_out.items())
            notes.append(f"left out on purpose: {parts}")
        if self.channels:
            given, wanted = self.channels
            notes.append(f"first convolution adapted from {given} to {wanted} image channels")
        return notes


def fit_tensors(
    tensors: Mapping[str, Tensor], wanted: CheckpointIdentity, num_blocks: int
) -> FittedTensors:
    """Rename published tensors, leave out what a backbone has no place for, adapt channels.

    Args:
        tensors: tensors of the backbone by published names or by ours, without a prefix.
        wanted: the network that the config describes.
        num_blocks: how many of its blocks the backbone has; it ends with the last tapped one.

    Raises:
        CheckpointMismatchError: the tensors are of another network.
    """
    fitted = FittedTensors()
    renamed = {rename_key(name): tensor for name, tensor in tensors.items()}
    if found := identify(renamed):
        found.check_fits(wanted, num_blocks)
        if found.in_channels != wanted.in_channels:
            renamed[STEM_WEIGHT] = adapt_image_channels(renamed[STEM_WEIGHT], wanted.in_channels)
            fitted.channels = found.in_channels, wanted.in_channels
    for name, tensor in renamed.items():
        if part := classification_part(name) or _block_behind(name, num_blocks):
            fitted.left_out[part] += 1
        else:
            fitted.state_dict[name] = tensor
    return fitted


def _block_behind(name: str, num_blocks: int) -> str | None:
    """A word for blocks after the last one that the pyramid taps; None for any other tensor."""
    match = _BLOCK.match(name)
    return "blocks behind the last tap" if match and int(match[1]) >= num_blocks else None
