"""Sizes of the maps that parts of a model are given, seen while it runs: no config tells them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor, nn

Size = tuple[int, int]


@contextmanager
def sizes_of_given_maps(parts: dict[str, nn.Module]) -> Iterator[dict[str, list[Size]]]:
    """Note the maps that parts of a model are given at their first call.

    Args:
        parts: modules by name, whose first argument is one map (B, C, H, W), or several.

    Yields:
        Heights and widths of the maps, in the part's order, by name; filled while the model runs.
        Parts that are not called, or get something else, have none.
    """
    sizes: dict[str, list[Size]] = {}
    for name, part in parts.items():
        # no hook: mmseg's heads call their own ``forward``, past all hooks
        part.forward = _noting(part.forward, name, sizes)
    try:
        yield sizes
    finally:
        for part in parts.values():
            del part.forward  # the one of the class is there again


def _noting(forward: Callable, name: str, sizes: dict[str, list[Size]]) -> Callable:
    @wraps(forward)
    def noting(*arguments: Any, **keywords: Any) -> Any:
        if name not in sizes and arguments and (maps := _maps_in(arguments[0])):
            sizes[name] = [tuple(tensor.shape[2:]) for tensor in maps]
        return forward(*arguments, **keywords)

    return noting


def _maps_in(argument: Any) -> list[Tensor]:
    maps = list(argument) if isinstance(argument, (list, tuple)) else [argument]
    are_maps = all(isinstance(tensor, Tensor) and tensor.ndim == 4 for tensor in maps)
    return maps if are_maps else []
