"""Saying which tensors of a model a checkpoint fills, and which it does not."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_NAMES = 12


@dataclass(frozen=True)
class LoadReport:
    """A comparison of the tensors of a model with those of a checkpoint.

    How many batches a norm has seen is no weight: where only that is missing nothing is.

    Attributes:
        model_names: names of the model's tensors.
        file_names: names of the checkpoint's.
        missing: names that only the model has; they keep the values they start with.
        unexpected: names that only the checkpoint has.
        reshaped: shape in the checkpoint and in the model of tensors that have one name and two
            shapes, such as the classifier of a head for other classes; they are not loaded.
    """

    model_names: tuple[str, ...]
    file_names: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Mapping[str, tuple[torch.Size, torch.Size]]

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
        lines = [f"{self.num_loaded} of {len(self.model_names)} tensors loaded ({self._parts()})"]
        if self.reshaped:
            shapes = ", ".join(
                f"{name} {tuple(given)}, in the model {tuple(wanted)}"
                for name, (given, wanted) in self.reshaped.items()
            )
            lines.append(f"of another shape, not loaded: {shapes}")
        if self.missing:
            lines.append(f"not in the checkpoint: {summarize(self.missing, self.model_names)}")
        if self.unexpected:
            lines.append(f"not in the model: {summarize(self.unexpected, self.file_names)}")
        return "\n  ".join(lines)

    def _parts(self) -> str:
        totals = Counter(_part(name) for name in self.model_names)
        lacking = Counter(_part(name) for name in (*self.missing, *self.reshaped))
        return ", ".join(
            f"{part} {total - lacking[part]}/{total}" for part, total in totals.items()
        )


def compare(model_tensors: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Compare a model's tensors with those of a checkpoint that has the same naming."""
    counted = {
        name: tensor
        for name, tensor in model_tensors.items()
        if name in state_dict or not name.endswith("num_batches_tracked")
    }
    return LoadReport(
        model_names=tuple(counted),
        file_names=tuple(state_dict),
        missing=tuple(name for name in counted if name not in state_dict),
        unexpected=tuple(name for name in state_dict if name not in counted),
        reshaped={
            name: (state_dict[name].shape, tensor.shape)
            for name, tensor in counted.items()
            if name in state_dict and state_dict[name].shape != tensor.shape
        },
    )


def summarize(names: Collection[str], all_names: Iterable[str]) -> str:
    """List names; where all names under a prefix are listed, the prefix stands for them.

    Args:
        names: some of ``all_names``.
        all_names: what a prefix is to be compared with.

    Returns:
        For instance ``neck.* (16), roi_head.bbox_head.fc_cls.bias``.
    """
    listed = set(names)
    others = {prefix for name in all_names if name not in listed for prefix in _prefixes(name)}
    groups = Counter(_shortest_own_prefix(name, others) for name in names)
    words = [name if name in listed else f"{name}.* ({number})" for name, number in groups.items()]
    more = [f"and {len(words) - _MOST_NAMES} more"] if len(words) > _MOST_NAMES else []
    return ", ".join(words[:_MOST_NAMES] + more)


def _shortest_own_prefix(name: str, others: set[str]) -> str:
    return next((prefix for prefix in _prefixes(name) if prefix not in others), name)


def _prefixes(name: str) -> list[str]:
    """``a``, ``a.b`` of ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _part(name: str) -> str:
    return name.split(".", 1)[0]
