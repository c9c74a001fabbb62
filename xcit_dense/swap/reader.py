"""What reads the levels of a backbone: the neck, or the heads where there is no neck."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xcit_dense.swap.measured_backbone import MeasuredBackbone
from xcit_dense.swap.swap_error import SwapError


@dataclass
class Reader:
    """A part of a model that reads some levels of the backbone.

    Attributes:
        node: its dict in the config, changed by :meth:`rewrite`.
        path: where that stands.
        levels: the levels that it reads, counted from 0, in its order.
        width_key: the key that says how wide they are; an int or a sequence of them.
        index_key: the key that says which levels it reads, if it has one.
        widths: how wide it says that they are; None for what stands at ``width_key``.
        changes: what else is to be set, by key.
        more: what else is to be done, given the new place of each level and the new width.
    """

    node: dict
    path: str
    levels: tuple[int, ...]
    width_key: str
    index_key: str | None = None
    widths: list[int] | None = None
    changes: dict = field(default_factory=dict)
    more: Callable[[dict[int, int], int], None] | None = None

    def __post_init__(self) -> None:
        if self.widths is None:
            widths = self.node[self.width_key]
            self.widths = [widths] if isinstance(widths, int) else list(widths)

    def check_widths(self, backbone: MeasuredBackbone) -> None:
        """See that it declares the widths which the backbone has.

        Raises:
            SwapError: it declares others.
        """
        measured = [backbone.channels[level] for level in self.levels]
        if self.widths != measured:
            raise SwapError(
                f"{self.path}.{self.width_key}",
                f"{self.widths}, but {backbone.name} gives {measured} there",
            )

    def rewrite(self, places: dict[int, int], width: int) -> None:
        """Let it read levels of one width, at their new places."""
        self.node[self.width_key] = _spread(self.node[self.width_key], width, len(self.levels))
        if self.index_key is not None:
            indices = self.node[self.index_key]
            moved = [places[level] for level in self.levels]
            self.node[self.index_key] = (
                moved[0] if isinstance(indices, int) else _like(indices, moved)
            )
        self.node.update(self.changes)
        if self.more is not None:
            self.more(places, width)


def _spread(old: int | Sequence[int], width: int, count: int) -> int | Sequence[int]:
    return width if isinstance(old, int) else _like(old, [width] * count)


def _like(old: Sequence[int], values: list[int]) -> Sequence[int]:
    return tuple(values) if isinstance(old, tuple) else values
