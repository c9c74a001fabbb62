"""How much memory a forward run keeps for the backward run."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def bytes_kept_for_backward(
    forward: Callable[[], Any], excluded: Iterable[Tensor] = ()
) -> tuple[int, Any]:
    """Run a function and add up the storages that its graph keeps alive at the end.

    Views of one storage count once, as the whole storage. Tensors that a custom autograd function
    stores outside ``save_for_backward`` are not seen.

    Args:
        forward: gives something that holds the graph, for instance the outputs.
        excluded: tensors whose storages do not count: parameters, buffers, inputs.

    Returns:
        Bytes, and what the function returned.
    """
    alive: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Kept:
        kept = _Kept(tensor)
        alive.add(kept)
        return kept

    with saved_tensors_hooks(pack, lambda kept: kept.tensor):
        result = forward()  # holds the graph, and the graph what was packed, while we count
    left_out = {_storage(tensor) for tensor in excluded}
    storages = {_storage(kept.tensor) for kept in alive} - left_out
    return sum(size for _, size in storages), result


class _Kept:
    """A packed tensor; lives as long as the graph wants it, and keeps its address from reuse."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _storage(tensor: Tensor) -> tuple[int, int]:
    """Address and size in bytes."""
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()
